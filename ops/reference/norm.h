#pragma once
// The oracles of ops/norm.h: plain loops in double, any strides and dtypes (f64 outputs too).

#include "framework/base/view.h"

namespace dujiang::ops::reference {

void rms_norm(Stream&, const View& x, const View& weight, float eps, const View& y, const View& rstd);
void add_rms_norm(Stream&, const View& x, const View& residual, const View& weight, float eps, const View& sum,
                  const View& y, const View& rstd);
void rms_norm_backward(Stream&, const View& dy, const View& x, const View& weight, const View& rstd, const View& addend,
                       const View& dx, const View& dweight, bool accumulate);
void norm_rope(Stream&, const View& x, const View& weight, float eps, const View& table, const View& positions,
               const View& y, const View& rstd);
void norm_rope_backward(Stream&, const View& dy, const View& x, const View& weight, const View& rstd, const View& table,
                        const View& positions, const View& dx, const View& dweight, bool accumulate);

}  // namespace dujiang::ops::reference
