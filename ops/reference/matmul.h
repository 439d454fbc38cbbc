#pragma once
// The oracle of ops/matmul.h: plain loops, double accumulation, any strides and dtypes (f64 outputs too).

#include "framework/base/view.h"

namespace dujiang::ops::reference {

void matmul(Stream&, const View& a, const View& b, const View& c, bool accumulate);

}  // namespace dujiang::ops::reference
