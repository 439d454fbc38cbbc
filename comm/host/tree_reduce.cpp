#include "comm/host/tree_reduce.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

constexpr std::int64_t block = 2048;  // f32 partials of a block: 8 KB, so that a few levels stay in the first cache
constexpr int levels = 32;            // of a tree over up to 2^31 ranks; only those used are touched

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

// Compiled once for each instruction set that matters, chosen when the program starts; additions round alike in all.
// Sanitizers can't have it: the choice is made before they are ready.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define DUJIANG_FOR_EACH_ISA __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define DUJIANG_FOR_EACH_ISA
#endif

template <Reduce R, class P, class T>
T rounded(P value, [[maybe_unused]] P divisor) {
  if constexpr (R == Reduce::avg) value /= divisor;
  return static_cast<T>(value);
}

template <class S, class P>
DUJIANG_FOR_EACH_ISA void widen(const S* a, P* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<P>(a[i]);
}

template <Reduce R, class S, class P>
DUJIANG_FOR_EACH_ISA void combine_pair(const S* a, const S* b, P* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = combine<R>(static_cast<P>(a[i]), static_cast<P>(b[i]));
}

template <Reduce R, class P>
DUJIANG_FOR_EACH_ISA void combine_into(P* out, const P* right, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = combine<R>(out[i], right[i]);
}

template <Reduce R, class P, class T>
DUJIANG_FOR_EACH_ISA void round_all(const P* partial, P divisor, T* receive, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) receive[i] = rounded<R, P, T>(partial[i], divisor);
}

// The commonest case, without partials in memory.
template <Reduce R, class S, class P, class T>
DUJIANG_FOR_EACH_ISA void reduce_pair(const S* a, const S* b, P divisor, T* receive, std::int64_t count) {
#pragma GCC ivdep  // receive may be a or b, element for element
  for (std::int64_t i = 0; i < count; ++i) {
    receive[i] = rounded<R, P, T>(combine<R>(static_cast<P>(a[i]), static_cast<P>(b[i])), divisor);
  }
}

// S is the type of the sources, P of partial results, T of the result.
template <Reduce R, class S, class P, class T>
struct Tree {
  const void* const* sources;
  P divisor;
  P scratch[levels][block];

  const S* source(int rank, std::int64_t begin) const { return static_cast<const S*>(sources[rank]) + begin; }

  // Leaves and pairs of leaves are read where they lie; everything else goes through blocks of partials.
  void partial(int first, int n, std::int64_t begin, std::int64_t count, int level, P* out) {
    if (n == 1) {
      widen(source(first, begin), out, count);
    } else if (n == 2) {
      combine_pair<R>(source(first, begin), source(first + 1, begin), out, count);
    } else {
      const int left = static_cast<int>(std::bit_ceil(static_cast<unsigned>(n)) / 2);
      P* right = scratch[level];
      partial(first, left, begin, count, level + 1, out);
      partial(first + left, n - left, begin, count, level + 1, right);
      combine_into<R>(out, right, count);
    }
  }

  void reduce_block(int n, std::int64_t begin, std::int64_t count, T* receive) {
    if (n == 2) return reduce_pair<R>(source(0, begin), source(1, begin), divisor, receive, count);
    partial(0, n, begin, count, 1, scratch[0]);
    round_all<R>(scratch[0], divisor, receive, count);
  }

  void run(int n, std::span<void* const> receives, std::int64_t count) {
    for (std::int64_t begin = 0; begin < count; begin += block) {
      const std::int64_t length = std::min(block, count - begin);
      T* first = static_cast<T*>(receives[0]) + begin;
      reduce_block(n, begin, length, first);
      for (std::size_t r = 1; r < receives.size(); ++r) {
        std::memcpy(static_cast<T*>(receives[r]) + begin, first, static_cast<std::size_t>(length) * sizeof(T));
      }
    }
  }
};

template <class S, class P, class T>
void reduce_as(const TreeReduction& how, std::span<const void* const> sources, std::span<void* const> receives,
               std::int64_t count) {
  const auto run = [&]<Reduce R>() {
    Tree<R, S, P, T> tree;
    tree.sources = sources.data();
    tree.divisor = static_cast<P>(how.divide_by);
    tree.run(static_cast<int>(sources.size()), receives, count);
  };
  switch (how.reduce) {
    case Reduce::sum:
      return run.template operator()<Reduce::sum>();
    case Reduce::max:
      return run.template operator()<Reduce::max>();
    case Reduce::min:
      return run.template operator()<Reduce::min>();
    case Reduce::avg:
      if constexpr (std::is_floating_point_v<P>) return run.template operator()<Reduce::avg>();
  }
  fail("no reduction {} of {}", name_of(how.reduce), name_of(how.source));
}

template <class Half>
void reduce_half(const TreeReduction& how, std::span<const void* const> sources, std::span<void* const> receives,
                 std::int64_t count) {
  if (how.source == how.result) return reduce_as<Half, float, Half>(how, sources, receives, count);
  if (how.source == Dtype::f32) return reduce_as<float, float, Half>(how, sources, receives, count);
  return reduce_as<Half, float, float>(how, sources, receives, count);
}

}  // namespace

bool can_reduce(Dtype dtype, Reduce reduce) {
  if (is_floating(dtype)) return true;
  return reduce != Reduce::avg && (dtype == Dtype::i32 || dtype == Dtype::i64 || dtype == Dtype::u8);
}

Dtype partial_dtype(Dtype dtype) {
  return is_half(dtype) ? Dtype::f32 : dtype;
}

void reduce_tree(const TreeReduction& how, std::span<const void* const> sources, std::span<void* const> receives,
                 std::int64_t count) {
  const auto [a, b] = std::pair(how.source, how.result);
  DUJIANG_CHECK(partial_dtype(a) == partial_dtype(b) && (a == b || a == Dtype::f32 || b == Dtype::f32),
                "no reduction from {} to {}", name_of(a), name_of(b));
  if (sources.size() == 1 && a == b) {
    const auto bytes = static_cast<std::size_t>(count) * size_of(a);
    for (void* receive : receives) {
      if (receive != sources[0]) std::memcpy(receive, sources[0], bytes);
    }
    return;
  }
  switch (is_half(a) ? a : b) {
    case Dtype::f32:
      return reduce_as<float, float, float>(how, sources, receives, count);
    case Dtype::bf16:
      return reduce_half<bf16>(how, sources, receives, count);
    case Dtype::f16:
      return reduce_half<f16>(how, sources, receives, count);
    case Dtype::f64:
      return reduce_as<double, double, double>(how, sources, receives, count);
    case Dtype::i32:
      return reduce_as<std::int32_t, std::int32_t, std::int32_t>(how, sources, receives, count);
    case Dtype::i64:
      return reduce_as<std::int64_t, std::int64_t, std::int64_t>(how, sources, receives, count);
    case Dtype::u8:
      return reduce_as<std::uint8_t, std::uint8_t, std::uint8_t>(how, sources, receives, count);
    default:
      fail("no reduction of {}", name_of(a));
  }
}

}  // namespace dujiang::comm
