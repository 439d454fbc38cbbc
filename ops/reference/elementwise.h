#pragma once
// The oracles of ops/elementwise.h: plain loops in double, any strides and dtypes (f64 outputs too).

#include "framework/base/view.h"

namespace dujiang::ops::reference {

void copy(Stream&, const View& x, const View& y);
void fill(Stream&, const View& y, float value);
void add(Stream&, const View& a, const View& b, const View& y);
void multiply(Stream&, const View& a, const View& b, const View& y);
void scale(Stream&, const View& x, float factor, const View& y);
void swiglu(Stream&, const View& gate, const View& up, const View& y);
void swiglu_backward(Stream&, const View& dy, const View& gate, const View& up, const View& dgate, const View& dup);
void sum(Stream&, const View& x, const View& result);
void sum_of_squares(Stream&, const View& x, const View& result);

}  // namespace dujiang::ops::reference
