#include "comm/tree_reduce.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

constexpr std::int64_t block = 2048;  // f32 partials of a block: 8 KB, so that a few levels stay in the first cache

template <Reduce R, class P>
P combine(P a, P b) {
  if constexpr (R == Reduce::max) {
    return (a > b || a != a) ? a : b;  // a NaN on either side survives
  } else if constexpr (R == Reduce::min) {
    return (a < b || a != a) ? a : b;
  } else if constexpr (std::is_integral_v<P>) {
    using U = std::make_unsigned_t<P>;
    return static_cast<P>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
  } else {
    return a + b;
  }
}

// P is the type of partial results, T that of the elements.
template <Reduce R, class T, class P>
struct Tree {
  const T* const* sources;
  std::vector<P> scratch;  // one block per level of the tree

  // Leaves and pairs of leaves are read where they lie; everything else goes through blocks of partials.
  void partial(int first, int n, std::int64_t begin, std::int64_t count, int level, P* out) {
    if (n == 1) {
      const T* a = sources[first] + begin;
      for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<P>(a[i]);
    } else if (n == 2) {
      const T* a = sources[first] + begin;
      const T* b = sources[first + 1] + begin;
      for (std::int64_t i = 0; i < count; ++i) out[i] = combine<R>(static_cast<P>(a[i]), static_cast<P>(b[i]));
    } else {
      const int left = static_cast<int>(std::bit_ceil(static_cast<unsigned>(n)) / 2);
      P* right_out = scratch.data() + level * block;
      partial(first, left, begin, count, level + 1, out);
      partial(first + left, n - left, begin, count, level + 1, right_out);
      for (std::int64_t i = 0; i < count; ++i) out[i] = combine<R>(out[i], right_out[i]);
    }
  }

  void run(int n, T* receive, std::int64_t count) {
    const P ranks = static_cast<P>(n);
    if (n == 2) {  // the commonest case, without partials in memory
      const T* a = sources[0];
      const T* b = sources[1];
#pragma GCC ivdep  // receive may be a or b, element for element
      for (std::int64_t i = 0; i < count; ++i) {
        P value = combine<R>(static_cast<P>(a[i]), static_cast<P>(b[i]));
        if constexpr (R == Reduce::avg) value /= ranks;
        receive[i] = static_cast<T>(value);
      }
      return;
    }
    const int levels = std::bit_width(static_cast<unsigned>(n)) + 1;
    scratch.resize(static_cast<std::size_t>(levels * block));
    P* out = scratch.data();
    for (std::int64_t begin = 0; begin < count; begin += block) {
      const std::int64_t length = std::min(block, count - begin);
      partial(0, n, begin, length, 1, out);
      for (std::int64_t i = 0; i < length; ++i) {
        P value = out[i];
        if constexpr (R == Reduce::avg) value /= ranks;
        receive[begin + i] = static_cast<T>(value);
      }
    }
  }
};

template <class T, class P>
void reduce_as(Reduce reduce, const void* const* sources, int n, void* receive, std::int64_t count) {
  const std::vector<const T*> typed = [&] {
    std::vector<const T*> v;
    for (int i = 0; i < n; ++i) v.push_back(static_cast<const T*>(sources[i]));
    return v;
  }();
  T* out = static_cast<T*>(receive);
  switch (reduce) {
    case Reduce::sum:
      return Tree<Reduce::sum, T, P>{typed.data(), {}}.run(n, out, count);
    case Reduce::max:
      return Tree<Reduce::max, T, P>{typed.data(), {}}.run(n, out, count);
    case Reduce::min:
      return Tree<Reduce::min, T, P>{typed.data(), {}}.run(n, out, count);
    case Reduce::avg:
      if constexpr (std::is_floating_point_v<P>) return Tree<Reduce::avg, T, P>{typed.data(), {}}.run(n, out, count);
  }
  fail("no reduction {} of {}", name_of(reduce), name_of(dtype_of<T>));
}

}  // namespace

bool can_reduce(Dtype dtype, Reduce reduce) {
  if (is_floating(dtype)) return true;
  return reduce != Reduce::avg && (dtype == Dtype::i32 || dtype == Dtype::i64 || dtype == Dtype::u8);
}

void reduce_tree(Dtype dtype, Reduce reduce, const void* const* sources, int n, void* receive, std::int64_t count) {
  if (n == 1) {
    if (receive != sources[0]) std::memcpy(receive, sources[0], static_cast<std::size_t>(count) * size_of(dtype));
    return;
  }
  switch (dtype) {
    case Dtype::f32:
      return reduce_as<float, float>(reduce, sources, n, receive, count);
    case Dtype::bf16:
      return reduce_as<bf16, float>(reduce, sources, n, receive, count);
    case Dtype::f16:
      return reduce_as<f16, float>(reduce, sources, n, receive, count);
    case Dtype::f64:
      return reduce_as<double, double>(reduce, sources, n, receive, count);
    case Dtype::i32:
      return reduce_as<std::int32_t, std::int32_t>(reduce, sources, n, receive, count);
    case Dtype::i64:
      return reduce_as<std::int64_t, std::int64_t>(reduce, sources, n, receive, count);
    case Dtype::u8:
      return reduce_as<std::uint8_t, std::uint8_t>(reduce, sources, n, receive, count);
    default:
      fail("no reduction of {}", name_of(dtype));
  }
}

}  // namespace dujiang::comm
