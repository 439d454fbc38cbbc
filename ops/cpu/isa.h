#pragma once
// Which instruction set the CPU kernels use. Files named *_simd.cpp are compiled once per set; the table of the best
// set that this processor has is picked at run time. AMX has no set of its own: oneDNN multiplies with it (gemm.h), the
// rest is avx512_bf16.

#include <string_view>

namespace dujiang::ops::cpu {

enum class Isa { baseline, avx2, avx512, avx512_bf16, amx };

/// The best set of this processor and operating system, capped by the environment variable DUJIANG_ISA (baseline,
/// avx2, avx512, avx512_bf16, amx). An unknown value there is a UserError. Read once.
Isa isa();
std::string_view name_of(Isa isa);

/// Each *_simd.cpp defines `const TABLE NAME` inside namespace DUJIANG_ISA; this declares them and a function
/// NAME() that returns the one for isa().
#if defined(__x86_64__)
#define DUJIANG_SIMD_TABLE(TABLE, NAME) \
  namespace baseline {                  \
  extern const TABLE NAME;              \
  }                                     \
  namespace avx2 {                      \
  extern const TABLE NAME;              \
  }                                     \
  namespace avx512 {                    \
  extern const TABLE NAME;              \
  }                                     \
  namespace avx512_bf16 {               \
  extern const TABLE NAME;              \
  }                                     \
  inline const TABLE& NAME() {          \
    switch (isa()) {                    \
      case Isa::amx:                    \
      case Isa::avx512_bf16:            \
        return avx512_bf16::NAME;       \
      case Isa::avx512:                 \
        return avx512::NAME;            \
      case Isa::avx2:                   \
        return avx2::NAME;              \
      case Isa::baseline:               \
        break;                          \
    }                                   \
    return baseline::NAME;              \
  }
#else
#define DUJIANG_SIMD_TABLE(TABLE, NAME) \
  namespace baseline {                  \
  extern const TABLE NAME;              \
  }                                     \
  inline const TABLE& NAME() {          \
    return baseline::NAME;              \
  }
#endif

}  // namespace dujiang::ops::cpu
