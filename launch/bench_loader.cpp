#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/loader/loader.h"
#include "data/shard/dataset_writer.h"
#include "framework/base/philox.h"
#include "launch/bench.h"

namespace dujiang::launch {
namespace {

namespace fs = std::filesystem;

// A dataset of random tokens in documents of 20 to 1,200, removed in the end.
class TemporaryDataset {
 public:
  TemporaryDataset() : folder_(fs::temp_directory_path() / fmt::format("dujiang-bench-{}", getpid())) {
    data::DatasetInfo info;
    info.vocab_size = 32768;
    info.tokenizer_sha256 = "random tokens";
    info.sources = {{"random", "", ""}};
    data::DatasetWriter writer(folder_, info);
    const Philox random(1, stream_of("bench.loader"));
    std::vector<std::int32_t> tokens;
    std::uint64_t drawn = 0;
    for (std::int64_t total = 0; total < 16'000'000; total += std::ssize(tokens)) {
      tokens.resize(20 + random.below(drawn++, 1180));
      for (auto& token : tokens) token = static_cast<std::int32_t>(random.below(drawn++, 32768));
      writer.add("train", {tokens, 0, {drawn, 0}, 0});
    }
    writer.finish();
  }
  ~TemporaryDataset() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  TemporaryDataset(const TemporaryDataset&) = delete;
  TemporaryDataset& operator=(const TemporaryDataset&) = delete;
  const fs::path& folder() const { return folder_; }

 private:
  fs::path folder_;
};

}  // namespace

int bench_loader(const BenchOptions& options) {
  options.apply_threads();
  std::optional<TemporaryDataset> temporary;
  if (options.folder.empty()) temporary.emplace();
  const fs::path folder = temporary ? temporary->folder() : fs::path(options.folder);
  const auto dataset = std::make_shared<const data::Dataset>(folder, "train");
  data::LoaderConfig config;
  config.sequence_length = options.sequence;
  config.global_batch = config.count = options.batch;
  config.seed = 1;

  std::string text =
      fmt::format("{}: {} documents, {} tokens; batches of {} x {}\n", temporary ? "random tokens" : folder.string(),
                  dataset->documents(), dataset->tokens(), options.batch, options.sequence);
  nlohmann::json object = {{"data", temporary ? "random" : folder.string()},
                           {"dataset_tokens", dataset->tokens()},
                           {"sequence_length", options.sequence},
                           {"batch", options.batch}};
  const auto tokens = static_cast<double>(options.sequence * options.batch);
  for (const int prefetch : {0, 2}) {
    data::DataLoader loader(dataset, config, prefetch);
    data::Batch batch;
    const std::int64_t epoch = loader.sequences_per_epoch() / options.batch + 1;
    for (std::int64_t i = 0; i < epoch; ++i) loader.next(batch);  // brings the shards into memory
    const double rate = tokens / median_seconds([&] { loader.next(batch); }, 1.0);
    text += fmt::format("{:<22} {:>8.1f} M tokens/s\n", prefetch == 0 ? "without the thread" : "with its thread",
                        rate / 1e6);
    object[prefetch == 0 ? "tokens_per_s" : "tokens_per_s_prefetched"] = rate;
  }
  options.report.print(text, object);
  return 0;
}

}  // namespace dujiang::launch
