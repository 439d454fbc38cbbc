#include "ops/cpu/isa.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "framework/base/check.h"

namespace dujiang::ops::cpu {
namespace {

constexpr std::array names{"baseline", "avx2", "avx512", "avx512_bf16", "amx"};

Isa detect() {
#if defined(__x86_64__)
  // GCC's test covers the operating system's saving of the registers as well.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::baseline;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return Isa::avx2;
  if (!__builtin_cpu_supports("avx512bf16")) return Isa::avx512;
  return __builtin_cpu_supports("amx-bf16") ? Isa::amx : Isa::avx512_bf16;
#else
  return Isa::baseline;
#endif
}

Isa capped() {
  const char* cap = std::getenv("DUJIANG_ISA");
  if (cap == nullptr || *cap == '\0') return detect();
  const auto it = std::find(names.begin(), names.end(), std::string_view(cap));
  if (it == names.end())
    fail_user("DUJIANG_ISA={}: expected one of {}", cap, fmt::join(names.begin(), names.end(), ", "));
  return std::min(detect(), static_cast<Isa>(it - names.begin()));
}

}  // namespace

Isa isa() {
  static const Isa chosen = capped();
  return chosen;
}

std::string_view name_of(Isa isa) {
  return names[static_cast<std::size_t>(isa)];
}

}  // namespace dujiang::ops::cpu
