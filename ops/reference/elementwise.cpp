#include "ops/reference/elementwise.h"

#include <cmath>

#include "ops/reference/access.h"

namespace dujiang::ops::reference {
namespace {

double at(const View& view, std::int64_t i) {
  return load(view, nth(view, i));
}
void put(const View& view, std::int64_t i, double value) {
  store(view, nth(view, i), value);
}

}  // namespace

void copy(Stream&, const View& x, const View& y) {
  for (std::int64_t i = 0; i < y.count(); ++i) put(y, i, at(x, i));
}

void fill(Stream&, const View& y, float value) {
  for (std::int64_t i = 0; i < y.count(); ++i) put(y, i, value);
}

void add(Stream&, const View& a, const View& b, const View& y) {
  for (std::int64_t i = 0; i < y.count(); ++i) put(y, i, at(a, i) + at(b, i));
}

void multiply(Stream&, const View& a, const View& b, const View& y) {
  for (std::int64_t i = 0; i < y.count(); ++i) put(y, i, at(a, i) * at(b, i));
}

void scale(Stream&, const View& x, float factor, const View& y) {
  for (std::int64_t i = 0; i < y.count(); ++i) put(y, i, at(x, i) * factor);
}

void swiglu(Stream&, const View& gate, const View& up, const View& y) {
  for (std::int64_t i = 0; i < y.count(); ++i) put(y, i, at(gate, i) / (1 + std::exp(-at(gate, i))) * at(up, i));
}

void swiglu_backward(Stream&, const View& dy, const View& gate, const View& up, const View& dgate, const View& dup) {
  for (std::int64_t i = 0; i < dy.count(); ++i) {
    const double d = at(dy, i), g = at(gate, i), u = at(up, i), sigmoid = 1 / (1 + std::exp(-g));
    put(dgate, i, d * u * sigmoid * (1 + g * (1 - sigmoid)));
    put(dup, i, d * g * sigmoid);
  }
}

void sum(Stream&, const View& x, const View& result) {
  double total = 0;
  for (std::int64_t i = 0; i < x.count(); ++i) total += at(x, i);
  put(result, 0, total);
}

void sum_of_squares(Stream&, const View& x, const View& result) {
  double total = 0;
  for (std::int64_t i = 0; i < x.count(); ++i) total += at(x, i) * at(x, i);
  put(result, 0, total);
}

}  // namespace dujiang::ops::reference
