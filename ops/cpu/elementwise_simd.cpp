#include "ops/cpu/elementwise_simd.h"

#include "ops/cpu/simd.h"

namespace dujiang::ops::cpu::DUJIANG_ISA {
namespace {

template <class E>
typename E::Bits* pointer(const Run& run, int operand) {
  return static_cast<typename E::Bits*>(run.data[operand]);
}

/// The first n <= width elements, `step` apart.
template <class E>
DUJIANG_INLINE Floats gather(E e, const typename E::Bits* p, std::ptrdiff_t step, std::ptrdiff_t n) {
  typename E::Bits buffer[width] = {};
  for (std::ptrdiff_t i = 0; i < n; ++i) buffer[i] = p[i * step];
  return load(e, buffer);
}
template <class E>
DUJIANG_INLINE void scatter(E e, typename E::Bits* p, std::ptrdiff_t step, Floats v, std::ptrdiff_t n) {
  typename E::Bits buffer[width];
  store(e, buffer, v);
  for (std::ptrdiff_t i = 0; i < n; ++i) p[i * step] = buffer[i];
}
/// The same, as store_flushing.
template <class E>
DUJIANG_INLINE void scatter_flushing(E e, typename E::Bits* p, std::ptrdiff_t step, Floats v, std::ptrdiff_t n) {
  typename E::Bits buffer[width];
  store_flushing(e, buffer, v);
  for (std::ptrdiff_t i = 0; i < n; ++i) p[i * step] = buffer[i];
}

template <int operands>
bool all_unit(const Run& run) {
  bool unit = true;
  for (int i = 0; i < operands; ++i) unit &= run.step[i] == 1;
  return unit;
}

template <class X, class Y>
void convert(const Run& run) {
  const auto* x = pointer<X>(run, 0);
  auto* y = pointer<Y>(run, 1);
  std::ptrdiff_t i = 0;
  if (all_unit<2>(run))
    for (; i + width <= run.n; i += width) store(Y{}, y + i, load(X{}, x + i));
  for (; i < run.n; i += width) {
    const std::ptrdiff_t n = run.n - i < width ? run.n - i : width;
    scatter(Y{}, y + i * run.step[1], run.step[1], gather(X{}, x + i * run.step[0], run.step[0], n), n);
  }
}

template <class Y>
void fill(const Run& run) {
  auto* y = pointer<Y>(run, 0);
  const Floats value = broadcast(run.value);
  std::ptrdiff_t i = 0;
  if (all_unit<1>(run))
    for (; i + width <= run.n; i += width) store(Y{}, y + i, value);
  for (; i < run.n; i += width)
    scatter(Y{}, y + i * run.step[0], run.step[0], value, run.n - i < width ? run.n - i : width);
}

struct Add {
  DUJIANG_INLINE Floats apply(Floats a, Floats b) { return a + b; }
};
struct Multiply {
  DUJIANG_INLINE Floats apply(Floats a, Floats b) { return a * b; }
};
struct Swiglu {
  DUJIANG_INLINE Floats apply(Floats gate, Floats up) { return gate * sigmoid(gate) * up; }
};

template <class Op, class X, class Y>
void binary(const Run& run) {
  const auto *a = pointer<X>(run, 0), *b = pointer<X>(run, 1);
  auto* y = pointer<Y>(run, 2);
  std::ptrdiff_t i = 0;
  if (all_unit<3>(run))
    for (; i + width <= run.n; i += width) store_flushing(Y{}, y + i, Op::apply(load(X{}, a + i), load(X{}, b + i)));
  for (; i < run.n; i += width) {
    const std::ptrdiff_t n = run.n - i < width ? run.n - i : width;
    const Floats va = gather(X{}, a + i * run.step[0], run.step[0], n);
    const Floats vb = gather(X{}, b + i * run.step[1], run.step[1], n);
    scatter_flushing(Y{}, y + i * run.step[2], run.step[2], Op::apply(va, vb), n);
  }
}

template <class X, class Y>
void scale(const Run& run) {
  const auto* x = pointer<X>(run, 0);
  auto* y = pointer<Y>(run, 1);
  const Floats factor = broadcast(run.value);
  std::ptrdiff_t i = 0;
  if (all_unit<2>(run))
    for (; i + width <= run.n; i += width) store(Y{}, y + i, load(X{}, x + i) * factor);
  for (; i < run.n; i += width) {
    const std::ptrdiff_t n = run.n - i < width ? run.n - i : width;
    scatter(Y{}, y + i * run.step[1], run.step[1], gather(X{}, x + i * run.step[0], run.step[0], n) * factor, n);
  }
}

DUJIANG_INLINE void swiglu_gradient(Floats dy, Floats gate, Floats up, Floats& dgate, Floats& dup) {
  const Floats share = sigmoid(gate), silu = gate * share;
  dgate = dy * up * (share + silu * (1.0f - share));
  dup = dy * silu;
}

template <class E>
void swiglu_backward(const Run& run) {
  const auto *dy = pointer<E>(run, 0), *gate = pointer<E>(run, 1), *up = pointer<E>(run, 2);
  auto *dgate = pointer<E>(run, 3), *dup = pointer<E>(run, 4);
  const E e;
  Floats dg, du;
  std::ptrdiff_t i = 0;
  if (all_unit<5>(run))
    for (; i + width <= run.n; i += width) {
      swiglu_gradient(load(e, dy + i), load(e, gate + i), load(e, up + i), dg, du);
      store_flushing(e, dgate + i, dg);
      store_flushing(e, dup + i, du);
    }
  for (; i < run.n; i += width) {
    const std::ptrdiff_t n = run.n - i < width ? run.n - i : width;
    swiglu_gradient(gather(e, dy + i * run.step[0], run.step[0], n), gather(e, gate + i * run.step[1], run.step[1], n),
                    gather(e, up + i * run.step[2], run.step[2], n), dg, du);
    scatter_flushing(e, dgate + i * run.step[3], run.step[3], dg, n);
    scatter_flushing(e, dup + i * run.step[4], run.step[4], du, n);
  }
}

template <class E>
void accumulate(const void* from, float* y, std::ptrdiff_t n) {
  const auto* x = static_cast<const typename E::Bits*>(from);
  std::ptrdiff_t i = 0;
  for (; i + width <= n; i += width) store(F32{}, y + i, load(F32{}, y + i) + load(E{}, x + i));
  if (i < n) store_some(F32{}, y + i, load_some(F32{}, y + i, n - i) + load_some(E{}, x + i, n - i), n - i);
}

/// Half a vector of floats, as doubles: a register of each. GCC 12 keeps wider vectors of doubles in memory.
typedef float HalfFloats __attribute__((vector_size(width * 2)));
typedef double Doubles __attribute__((vector_size(width * 4)));
DUJIANG_INLINE Doubles to_doubles(HalfFloats v) {  // one instruction, which GCC 12 splits in two
#if defined(__AVX512F__)
  return (Doubles)_mm512_cvtps_pd((__m256)v);
#elif defined(__AVX2__)
  return (Doubles)_mm256_cvtps_pd((__m128)v);
#else
  return __builtin_convertvector(v, Doubles);
#endif
}

/// Sums f(x) in double: neither a large count nor large squares lose anything.
template <class E, bool square>
double total(const void* from, std::ptrdiff_t n) {
  const auto* x = static_cast<const typename E::Bits*>(from);
  constexpr int half = width / 2;
  Doubles t0[2] = {}, t1[2] = {};
  auto step = [](Doubles* t, Floats v) {
    HalfFloats halves[2];
    std::memcpy(halves, &v, sizeof v);
    for (int i = 0; i < 2; ++i) {
      const Doubles d = to_doubles(halves[i]);
      t[i] += square ? d * d : d;
    }
  };
  std::ptrdiff_t i = 0;
  for (; i + 2 * width <= n; i += 2 * width) {
    step(t0, load(E{}, x + i));
    step(t1, load(E{}, x + i + width));
  }
  if (i + width <= n) {
    step(t0, load(E{}, x + i));
    i += width;
  }
  if (i < n) step(t1, load_some(E{}, x + i, n - i));
  double sum = 0;
  for (int lane = 0; lane < width; ++lane) sum += t0[lane / half][lane % half] + t1[lane / half][lane % half];
  return sum;
}

}  // namespace

const ElementwiseTable elementwise_table = {
    .convert = {{convert<F32, F32>, convert<F32, Bf16>, convert<F32, F16>},
                {convert<Bf16, F32>, convert<Bf16, Bf16>, convert<Bf16, F16>},
                {convert<F16, F32>, convert<F16, Bf16>, convert<F16, F16>}},
    .fill = {fill<F32>, fill<Bf16>, fill<F16>},
    .add = {{binary<Add, F32, F32>, binary<Add, F32, F32>},
            {binary<Add, Bf16, Bf16>, binary<Add, Bf16, F32>},
            {binary<Add, F16, F16>, binary<Add, F16, F32>}},
    .multiply = {{binary<Multiply, F32, F32>, binary<Multiply, F32, F32>},
                 {binary<Multiply, Bf16, Bf16>, binary<Multiply, Bf16, F32>},
                 {binary<Multiply, F16, F16>, binary<Multiply, F16, F32>}},
    .scale = {{scale<F32, F32>, scale<F32, F32>},
              {scale<Bf16, Bf16>, scale<Bf16, F32>},
              {scale<F16, F16>, scale<F16, F32>}},
    .swiglu = {binary<Swiglu, F32, F32>, binary<Swiglu, Bf16, Bf16>, binary<Swiglu, F16, F16>},
    .swiglu_backward = {swiglu_backward<F32>, swiglu_backward<Bf16>, swiglu_backward<F16>},
    .accumulate = {accumulate<F32>, accumulate<Bf16>, accumulate<F16>},
    .sum = {total<F32, false>, total<Bf16, false>, total<F16, false>},
    .sum_of_squares = {total<F32, true>, total<Bf16, true>, total<F16, true>},
};

}  // namespace dujiang::ops::cpu::DUJIANG_ISA
