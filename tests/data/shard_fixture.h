#pragma once
// A folder that vanishes with its owner, and small datasets in it.

#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/shard/dataset_writer.h"
#include "framework/base/check.h"
#include "framework/base/philox.h"
#include "tests/support/temp_folder.h"

namespace dujiang::data {

using test::TempFolder;

using Documents = std::vector<std::vector<std::int32_t>>;

inline DatasetInfo some_info(std::int64_t vocab_size) {
  return {vocab_size, "5ha256", R"({"min_chars": 20})", {{"man", "GPL", "aa"}, {"诗", "public domain", "bb"}}};
}

/// Documents of 0 to `longest` tokens, of tokens in [1, vocab_size); 0 ends each that is not empty.
inline Documents random_documents(int count, int longest, std::int64_t vocab_size, std::uint64_t seed) {
  const Philox random(seed, 1);
  std::uint64_t draw = 0;
  Documents documents(static_cast<std::size_t>(count));
  for (auto& document : documents) {
    document.resize(random.below(draw++, static_cast<std::uint64_t>(longest) + 1));
    for (auto& token : document)
      token = 1 + static_cast<std::int32_t>(random.below(draw++, static_cast<std::uint64_t>(vocab_size - 1)));
    if (!document.empty()) document.back() = 0;
  }
  return documents;
}

inline Manifest write_dataset(const std::filesystem::path& folder, const Documents& documents, std::int64_t vocab_size,
                              std::int64_t shard_tokens = DatasetWriter::default_shard_tokens) {
  DatasetWriter writer(folder, some_info(vocab_size), shard_tokens);
  std::uint64_t n = 0;
  for (const auto& document : documents) {
    writer.add("train", {document, static_cast<std::uint32_t>(n % 2), {n, ~n}, static_cast<std::uint32_t>(n)});
    ++n;
  }
  return writer.finish();
}

/// The message of the UserError that `action` must end in; any other outcome gives a text that matches nothing.
template <class Action>
std::string user_error_of(Action&& action) {
  try {
    action();
  } catch (const UserError& e) {
    return e.what();
  } catch (const std::exception& e) {
    return std::string("<not a UserError> ") + typeid(e).name();
  }
  return "<no error>";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace dujiang::data
