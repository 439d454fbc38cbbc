#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "data/tokenizer/tokenizer.h"
#include "framework/base/check.h"
#include "framework/base/threads.h"
#include "launch/bench.h"
#include "launch/parse.h"

namespace dujiang::launch {
namespace {

// Documents of about 64 KiB that end with a line.
std::vector<std::string_view> documents_of(std::string_view text) {
  constexpr std::size_t size = std::size_t{64} << 10;
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const std::size_t line = text.find('\n', std::min(size, text.size() - 1));
    out.push_back(text.substr(0, line == text.npos ? line : line + 1));
    text.remove_prefix(out.back().size());
  }
  return out;
}

}  // namespace

int bench_tokenizer(const BenchOptions& options) {
  const int most = options.apply_threads();
  const auto tokenizer = data::load_tokenizer(options.folder);
  const std::string text = read_text(options.file);
  if (text.empty()) fail_user("{}: there is no text in it", options.file);
  const auto documents = documents_of(text);
  std::vector<std::vector<std::int32_t>> ids(documents.size());
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    ids[i] = tokenizer->encode(documents[i]);  // refuses what isn't UTF-8 before the loops below, which must not throw
    tokens += ids[i].size();
  }

  const double megabytes = static_cast<double>(text.size()) / 1e6;
  const auto count = static_cast<std::int64_t>(documents.size());
  std::string table = fmt::format("{}: {:.1f} MB, {} tokens, {:.2f} bytes a token\n{:>8} {:>14} {:>14}\n", options.file,
                                  megabytes, tokens, static_cast<double>(text.size()) / static_cast<double>(tokens),
                                  "threads", "encode MB/s", "decode MB/s");
  nlohmann::json rows = nlohmann::json::array();
  for (int threads = 1; threads <= most; threads = threads < most ? std::min(threads * 2, most) : most + 1) {
    set_thread_count(threads);
    const double encode = megabytes / median_seconds(
                                          [&] {
                                            parallel_tasks(count, [&](std::int64_t i) {
                                              const auto at = static_cast<std::size_t>(i);
                                              ids[at] = tokenizer->encode(documents[at]);
                                            });
                                          },
                                          2.0);
    const double decode = megabytes / median_seconds(
                                          [&] {
                                            parallel_tasks(count, [&](std::int64_t i) {
                                              tokenizer->decode(ids[static_cast<std::size_t>(i)]);
                                            });
                                          },
                                          2.0);
    table += fmt::format("{:>8} {:>14.1f} {:>14.1f}\n", threads, encode, decode);
    rows.push_back({{"threads", threads}, {"encode_mb_per_s", encode}, {"decode_mb_per_s", decode}});
  }
  options.report.print(table, {{"tokenizer", options.folder},
                               {"text", options.file},
                               {"bytes", text.size()},
                               {"tokens", tokens},
                               {"rates", rows}});
  return 0;
}

}  // namespace dujiang::launch
