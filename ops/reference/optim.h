#pragma once
// The oracles of ops/optim.h: plain loops, AdamW in double over any dtypes, its weights not in halves.

#include "framework/base/view.h"
#include "ops/optim.h"

namespace dujiang::ops::reference {

void adamw(Stream&, const View& master, const View& m, const View& v, const View& grad, const View& param,
           const AdamwStep& step);
void split_f32(Stream&, const View& x, const View& high, const View& low);
void join_f32(Stream&, const View& high, const View& low, const View& x);

}  // namespace dujiang::ops::reference
