#include "ops/cpu/norm_simd.h"

#include "ops/cpu/simd.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

/// The sum of f(i, lanes) over a row, in two accumulators: one would wait for its own latency.
template <class F>
DUJIANG_INLINE float reduce(std::ptrdiff_t n, F&& f) {
  Floats t0{}, t1{};
  std::ptrdiff_t i = 0;
  for (; i + 2 * width <= n; i += 2 * width) {
    t0 += f(i, All{});
    t1 += f(i + width, All{});
  }
  if (i + width <= n) {
    t0 += f(i, All{});
    i += width;
  }
  if (i < n) t1 += f(i, Some{n - i});
  return sum(t0 + t1);
}

float reciprocal_deviation(float squares, std::ptrdiff_t d, float eps) {
  return 1.0f / __builtin_sqrtf(squares / static_cast<float>(d) + eps);
}

template <class E>
void forward(const NormRows& a) {
  using Bits = typename E::Bits;
  const E e;
  const auto* weight = static_cast<const Bits*>(a.weight);
  for (std::ptrdiff_t row = 0; row < a.rows; ++row) {
    const auto* x = static_cast<const Bits*>(a.x) + row * a.x_stride;
    auto* y = static_cast<Bits*>(a.y) + row * a.y_stride;
    float squares;
    if (a.residual != nullptr) {
      const auto* residual = static_cast<const Bits*>(a.residual) + row * a.residual_stride;
      auto* total = static_cast<Bits*>(a.sum) + row * a.sum_stride;
      squares = reduce(a.d, [&](std::ptrdiff_t i, auto lanes) {
        store(e, total + i, load(e, x + i, lanes) + load(e, residual + i, lanes), lanes);
        const Floats v = load(e, total + i, lanes);  // as rounded: what a norm of the stored sum would see
        return v * v;
      });
      x = total;
    } else {
      squares = reduce(a.d, [&](std::ptrdiff_t i, auto lanes) {
        const Floats v = load(e, x + i, lanes);
        return v * v;
      });
    }
    const float r = reciprocal_deviation(squares, a.d, a.eps);
    a.rstd[row] = r;
    sweep(a.d, [&](std::ptrdiff_t i, auto lanes) {
      store_flushing(e, y + i, load(e, x + i, lanes) * r * load(e, weight + i, lanes), lanes);
    });
  }
}

// With xhat = x * r and g = dy * weight: dx = r * (g - xhat * mean(g * xhat)), dweight = sum over rows of dy * xhat.
template <class E>
void backward(const NormBackwardRows& a) {
  using Bits = typename E::Bits;
  const E e;
  const auto* weight = static_cast<const Bits*>(a.weight);
  if (a.dweight != nullptr)
    sweep(a.d, [&](std::ptrdiff_t i, auto lanes) { store(F32{}, a.dweight + i, Floats{}, lanes); });
  for (std::ptrdiff_t row = 0; row < a.rows; ++row) {
    const auto* x = static_cast<const Bits*>(a.x) + row * a.x_stride;
    const auto* dy = static_cast<const Bits*>(a.dy) + row * a.dy_stride;
    auto* dx = static_cast<Bits*>(a.dx) + row * a.dx_stride;
    const float r = a.rstd[row];
    const float dot = reduce(a.d, [&](std::ptrdiff_t i, auto lanes) {
      return load(e, dy + i, lanes) * load(e, weight + i, lanes) * (load(e, x + i, lanes) * r);
    });
    const float mean = dot / static_cast<float>(a.d);
    const auto* addend = a.addend != nullptr ? static_cast<const Bits*>(a.addend) + row * a.addend_stride : nullptr;
    sweep(a.d, [&](std::ptrdiff_t i, auto lanes) {
      const Floats xhat = load(e, x + i, lanes) * r, g = load(e, dy + i, lanes);
      Floats out = r * (g * load(e, weight + i, lanes) - xhat * mean);
      if (a.dweight != nullptr) store(F32{}, a.dweight + i, load(F32{}, a.dweight + i, lanes) + g * xhat, lanes);
      if (addend != nullptr) out += load(e, addend + i, lanes);
      store_flushing(e, dx + i, out, lanes);
    });
  }
}

template <class E>
void rope(const RopeRows& a) {
  using Bits = typename E::Bits;
  const E e;
  const std::ptrdiff_t half = a.d / 2;
  const auto* weight = static_cast<const Bits*>(a.weight);
  for (std::ptrdiff_t row = 0; row < a.rows; ++row) {
    const float* cosine = a.table + a.positions[row * a.position_step] * a.table_row;
    const float* sine = cosine + half;
    for (std::ptrdiff_t head = 0; head < a.heads; ++head) {
      const auto* x = static_cast<const Bits*>(a.x) + row * a.x_row + head * a.x_head;
      auto* y = static_cast<Bits*>(a.y) + row * a.y_row + head * a.y_head;
      float r = 1;
      if (weight != nullptr) {
        const float squares = reduce(a.d, [&](std::ptrdiff_t i, auto lanes) {
          const Floats v = load(e, x + i, lanes);
          return v * v;
        });
        r = reciprocal_deviation(squares, a.d, a.eps);
        a.rstd[row * a.heads + head] = r;
      }
      sweep(half, [&](std::ptrdiff_t i, auto lanes) {
        Floats low = load(e, x + i, lanes), high = load(e, x + half + i, lanes);
        if (weight != nullptr) {
          low = low * r * load(e, weight + i, lanes);
          high = high * r * load(e, weight + half + i, lanes);
        }
        const Floats c = load(F32{}, cosine + i, lanes), s = load(F32{}, sine + i, lanes);
        store_flushing(e, y + i, low * c - high * s, lanes);
        store_flushing(e, y + half + i, high * c + low * s, lanes);
      });
    }
  }
}

template <class E>
void rope_backward(const RopeRows& a) {
  using Bits = typename E::Bits;
  const E e;
  const std::ptrdiff_t half = a.d / 2;
  const auto* weight = static_cast<const Bits*>(a.weight);
  if (a.dweight != nullptr)
    sweep(a.d, [&](std::ptrdiff_t i, auto lanes) { store(F32{}, a.dweight + i, Floats{}, lanes); });
  for (std::ptrdiff_t row = 0; row < a.rows; ++row) {
    const float* cosine = a.table + a.positions[row * a.position_step] * a.table_row;
    const float* sine = cosine + half;
    for (std::ptrdiff_t head = 0; head < a.heads; ++head) {
      const auto* dy = static_cast<const Bits*>(a.dy) + row * a.dy_row + head * a.dy_head;
      auto* dx = static_cast<Bits*>(a.y) + row * a.y_row + head * a.y_head;
      const auto* x = static_cast<const Bits*>(a.x) + row * a.x_row + head * a.x_head;
      // The gradient before the rotation: turned back by the same angle.
      auto turn_back = [&](std::ptrdiff_t i, auto lanes, Floats& low, Floats& high) {
        const Floats c = load(F32{}, cosine + i, lanes), s = load(F32{}, sine + i, lanes);
        const Floats dlow = load(e, dy + i, lanes), dhigh = load(e, dy + half + i, lanes);
        low = dlow * c + dhigh * s;
        high = dhigh * c - dlow * s;
      };
      if (weight == nullptr) {
        sweep(half, [&](std::ptrdiff_t i, auto lanes) {
          Floats low, high;
          turn_back(i, lanes, low, high);
          store_flushing(e, dx + i, low, lanes);
          store_flushing(e, dx + half + i, high, lanes);
        });
        continue;
      }
      const float r = a.rstd[row * a.heads + head];
      const float dot = reduce(half, [&](std::ptrdiff_t i, auto lanes) {
        Floats low, high;
        turn_back(i, lanes, low, high);
        return low * load(e, weight + i, lanes) * (load(e, x + i, lanes) * r) +
               high * load(e, weight + half + i, lanes) * (load(e, x + half + i, lanes) * r);
      });
      const float mean = dot / static_cast<float>(a.d);
      sweep(half, [&](std::ptrdiff_t i, auto lanes) {
        Floats low, high;
        turn_back(i, lanes, low, high);
        const Floats xlow = load(e, x + i, lanes) * r, xhigh = load(e, x + half + i, lanes) * r;
        if (a.dweight != nullptr) {
          float* dw = a.dweight + i;
          store(F32{}, dw, load(F32{}, dw, lanes) + low * xlow, lanes);
          store(F32{}, dw + half, load(F32{}, dw + half, lanes) + high * xhigh, lanes);
        }
        store_flushing(e, dx + i, r * (low * load(e, weight + i, lanes) - xlow * mean), lanes);
        store_flushing(e, dx + half + i, r * (high * load(e, weight + half + i, lanes) - xhigh * mean), lanes);
      });
    }
  }
}

}  // namespace

const NormTable norm_table = {
    .forward = {forward<F32>, forward<Bf16>, forward<F16>},
    .backward = {backward<F32>, backward<Bf16>, backward<F16>},
    .rope = {rope<F32>, rope<Bf16>, rope<F16>},
    .rope_backward = {rope_backward<F32>, rope_backward<Bf16>, rope_backward<F16>},
};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
