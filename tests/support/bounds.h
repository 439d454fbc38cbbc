#pragma once
// How far a result computed in f32 may lie from the exact one, by the number of its roundings.

#include <cstddef>
#include <functional>

#include "framework/base/dtype.h"

namespace dujiang::test {

/// Unit roundoff: half the distance from 1 to the next number.
inline double roundoff(Dtype dtype) {
  switch (dtype) {
    case Dtype::bf16:
      return 0x1p-8;
    case Dtype::f16:
      return 0x1p-11;
    case Dtype::f32:
      return 0x1p-24;
    default:
      return 0x1p-53;
  }
}
/// Half the smallest positive number: what rounding may lose besides, near zero. In bf16 what is subnormal may become
/// zero.
inline double underflow(Dtype dtype) {
  switch (dtype) {
    case Dtype::f16:
      return 0x1p-25;
    case Dtype::bf16:
      return 0x1p-126;
    default:
      return 0x1p-150;
  }
}

/// The relative error that n roundings in f32, one upon another, may add up to: n u / (1 - n u). A sum of k products,
/// in any order and fused or not, errs by at most roundings(k) times the sum of its terms' magnitudes: each term is
/// rounded as a product and then in at most k - 1 additions (Higham, Accuracy and Stability, sections 3.1 and 4.2).
inline double roundings(double n) {
  const double nu = n * roundoff(Dtype::f32);
  return nu / (1 - nu);
}

/// How far a result may lie from the oracle's: absolute + relative * |expected|, and where given the i-th element's
/// own share (such as roundings(k) * the sum of its terms' magnitudes).
struct Bound {
  double relative = 0;
  double absolute = 0;
  std::function<double(std::size_t)> own = nullptr;
};
/// One rounding of a result of `dtype`.
inline Bound rounding(Dtype dtype) {
  return {roundoff(dtype), underflow(dtype)};
}

}  // namespace dujiang::test
