#include "data/text/hash.h"

#include <xxhash.h>

namespace dujiang::data {

Hash128 hash128(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

}  // namespace dujiang::data
