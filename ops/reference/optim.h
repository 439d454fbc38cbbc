#pragma once
// The oracle of ops/optim.h: a plain loop in double over any dtypes.

#include "framework/base/view.h"
#include "ops/optim.h"

namespace dujiang::ops::reference {

void adamw(Stream&, const View& master, const View& m, const View& v, const View& grad, const View& param,
           const AdamwStep& step);

}  // namespace dujiang::ops::reference
