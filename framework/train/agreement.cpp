#include "framework/train/agreement.h"

#include <fmt/ranges.h>
#include <xxhash.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "framework/base/check.h"

namespace dujiang::train {
namespace {

using Hasher = std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)>;

Hasher make_hasher() {
  Hasher hasher(XXH3_createState(), XXH3_freeState);
  DUJIANG_CHECK(hasher != nullptr, "no memory for a hash");
  XXH3_128bits_reset(hasher.get());
  return hasher;
}

Hash128 digest(const Hasher& hasher) {
  const XXH128_hash_t hash = XXH3_128bits_digest(hasher.get());
  return {hash.low64, hash.high64};
}

template <class T>
comm::Buffer buffer(std::vector<T>& values) {
  return {values.data(), static_cast<std::int64_t>(values.size()), dtype_of<T>, {}};
}

template <class T>
std::vector<T> gather(std::vector<T> mine, comm::Communicator& communicator) {
  std::vector<T> all(mine.size() * static_cast<std::size_t>(communicator.size()));
  communicator.all_gather(buffer(mine), buffer(all), default_stream({})).wait_host();
  return all;
}

// A rank and the lowest rank of its group, whose hashes of one claim differ.
struct Difference {
  int rank, reference;
};

// `hash_and_group(rank)` is what that rank claims.
template <class Claimed>
std::optional<Difference> first_difference(int ranks, const Claimed& hash_and_group) {
  std::map<std::int64_t, int> lowest;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto [hash, group] = hash_and_group(rank);
    const int reference = lowest.emplace(group, rank).first->second;
    if (hash_and_group(reference).first != hash) return Difference{rank, reference};
  }
  return std::nullopt;
}

std::map<std::string, std::string> details_of(const Claim& claim, int rank, comm::Communicator& communicator) {
  const bool mine = communicator.rank() == rank;
  return nlohmann::json::parse(broadcast_text(mine ? nlohmann::json(claim.details).dump() : "", rank, communicator));
}

[[noreturn]] void report(const Claim& claim, Difference at, comm::Communicator& communicator) {
  const auto expected = details_of(claim, at.reference, communicator), found = details_of(claim, at.rank, communicator);
  std::map<std::string, std::string> keys = expected;
  keys.insert(found.begin(), found.end());
  const auto value = [](const auto& details, const std::string& key) {
    const auto it = details.find(key);
    return it == details.end() ? std::string("absent") : it->second;
  };
  std::vector<std::string> told;
  for (const auto& [key, ignored] : keys) {
    if (value(expected, key) == value(found, key)) continue;
    told.push_back(fmt::format("{}: {} on rank {}, {} on rank {}", key, value(found, key), at.rank,
                               value(expected, key), at.reference));
  }
  constexpr std::size_t shown = 10;
  if (told.size() > shown) {
    const std::size_t more = told.size() - shown;
    told.resize(shown);
    told.push_back(fmt::format("and {} more", more));
  }
  fail_user("rank {} has another {} than rank {}{}{}; give all ranks the same", at.rank, claim.what, at.reference,
            told.empty() ? "" : ": ", fmt::join(told, "; "));
}

void flatten(const std::string& key, const YAML::Node& node, std::map<std::string, std::string>& details) {
  if (!node.IsMap()) {
    YAML::Emitter flow;
    flow << YAML::Flow << node;
    details[key] = flow.c_str();
    return;
  }
  for (const auto& item : node) {
    const auto name = item.first.as<std::string>();
    flatten(key.empty() ? name : key + "." + name, item.second, details);
  }
}

struct Failure {
  bool user = false;
  std::string message;
};

// Runs a step; a failure is kept rather than thrown.
bool attempt(const std::function<bool()>& step, std::optional<Failure>& failure) {
  try {
    return step();
  } catch (const UserError& e) {
    failure = {true, e.what()};
  } catch (const std::filesystem::filesystem_error& e) {
    failure = {true, e.what()};
  } catch (const std::exception& e) {
    failure = {false, e.what()};
  }
  return false;
}

}  // namespace

Hash128 hash_of(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

Hash128 hash_of(std::span<const Tensor> tensors) {
  const Hasher hasher = make_hasher();
  for (const auto& tensor : tensors) {
    DUJIANG_CHECK(tensor.contiguous() && tensor.device() == Device{}, "hash of {}: expected host memory, contiguous",
                  tensor.str());
    if (tensor.count() > 0) XXH3_128bits_update(hasher.get(), tensor.raw().data, tensor.raw().bytes());
  }
  return digest(hasher);
}

Claim claim(std::string what, std::map<std::string, std::string> details, int group) {
  const Hash128 hash = hash_of(nlohmann::json(details).dump());
  return {std::move(what), hash, group, std::move(details)};
}

Claim yaml_claim(std::string what, const std::string& yaml) {
  std::map<std::string, std::string> details;
  flatten("", YAML::Load(yaml), details);
  return {std::move(what), hash_of(yaml), 0, std::move(details)};
}

Claim program_claim() {
  const char* self = "/proc/self/exe";
  std::ifstream in(self, std::ios::binary);
  const Hasher hasher = make_hasher();
  std::vector<char> piece(std::size_t{1} << 20);
  while (in) {
    in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    XXH3_128bits_update(hasher.get(), piece.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (!in.eof()) fail("{}: cannot be read", self);
  const Hash128 hash = digest(hasher);
  std::error_code ignored;
  const auto path = std::filesystem::read_symlink(self, ignored).string();
  return {"program", hash, 0, {{"file", fmt::format("{} (xxh3 {:016x}{:016x})", path, hash[1], hash[0])}}};
}

void require_agreement(std::span<const Claim> claims, comm::Communicator& communicator) {
  const int ranks = communicator.size();
  const auto bits = [](std::uint64_t word) { return static_cast<std::int64_t>(word); };
  // First of what the claims are: so that what follows has the same length everywhere.
  std::string names;
  for (const auto& one : claims) names += one.what + '\n';
  const Hash128 same = hash_of(names);
  const auto lists = gather<std::int64_t>({bits(same[0]), bits(same[1])}, communicator);
  const auto other = first_difference(ranks, [&](int rank) {
    const std::size_t at = 2 * static_cast<std::size_t>(rank);
    return std::pair(std::array{lists[at], lists[at + 1]}, std::int64_t{0});
  });
  if (other) fail_user("rank {} runs another program than rank {}; start the same on all ranks", other->rank, 0);

  std::vector<std::int64_t> mine;
  for (const auto& one : claims) mine.insert(mine.end(), {bits(one.hash[0]), bits(one.hash[1]), one.group});
  const auto all = gather(mine, communicator);
  for (std::size_t i = 0; i < claims.size(); ++i) {
    const auto found = first_difference(ranks, [&](int rank) {
      const std::size_t at = 3 * (static_cast<std::size_t>(rank) * claims.size() + i);
      return std::pair(std::array{all[at], all[at + 1]}, all[at + 2]);
    });
    if (found) report(claims[i], *found, communicator);
  }
}

void in_rounds(comm::Communicator& communicator, const std::function<bool()>& step) {
  constexpr std::int32_t done = 0, more = 1, failed = 2;
  const auto reduced = [&](std::int32_t value, comm::Reduce reduce) {
    communicator.all_reduce(comm::Buffer{&value, 1, Dtype::i32, {}}, reduce, default_stream({})).wait_host();
    return value;
  };
  std::int32_t state = more;
  bool mine = true;
  while (state == more) {
    std::optional<Failure> failure;
    mine = mine && attempt(step, failure);
    state = reduced(failure ? failed : mine ? more : done, comm::Reduce::max);
    if (state != failed) continue;
    const int rank = reduced(failure ? communicator.rank() : communicator.size(), comm::Reduce::min);
    const bool here = communicator.rank() == rank;
    const std::string kind_and_message = here ? (failure->user ? "u" : "e") + failure->message : "";
    const std::string told = broadcast_text(kind_and_message, rank, communicator);
    const std::string message =
        communicator.size() == 1 ? told.substr(1) : fmt::format("rank {}: {}", rank, told.substr(1));
    if (told[0] == 'u') fail_user("{}", message);
    fail("{}", message);
  }
}

void together(comm::Communicator& communicator, const std::function<void()>& action) {
  in_rounds(communicator, [&] {
    action();
    return false;
  });
}

std::string broadcast_text(std::string text, int root, comm::Communicator& communicator) {
  auto& stream = default_stream({});
  auto length = static_cast<std::int64_t>(text.size());
  communicator.broadcast(comm::Buffer{&length, 1, Dtype::i64, {}}, root, stream).wait_host();
  text.resize(static_cast<std::size_t>(length));
  if (length > 0) communicator.broadcast(comm::Buffer{text.data(), length, Dtype::u8, {}}, root, stream).wait_host();
  return text;
}

}  // namespace dujiang::train
