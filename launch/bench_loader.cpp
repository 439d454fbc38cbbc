#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/loader/loader.h"
#include "data/shard/dataset_writer.h"
#include "framework/base/check.h"
#include "framework/base/files.h"
#include "framework/base/philox.h"
#include "launch/bench.h"

namespace dujiang::launch {
namespace {

namespace fs = std::filesystem;

double seconds_of(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// 64 Mi random tokens in documents of 20 to 1,200, removed in the end.
class TemporaryDataset {
 public:
  TemporaryDataset() : folder_(fs::temp_directory_path() / fmt::format("dujiang-bench-{}", getpid())) {
    const Philox random(1, stream_of("bench.loader"));
    std::vector<std::int32_t> tokens(std::size_t{64} << 20);
    for (std::size_t i = 0; i < tokens.size(); i += 8) {
      const auto words = random.block(i / 8);
      for (std::size_t w = 0; w < 4; ++w) {
        tokens[i + 2 * w] = static_cast<std::int32_t>(words[w] & 0x7fff);
        tokens[i + 2 * w + 1] = static_cast<std::int32_t>(words[w] >> 17);
      }
    }
    data::DatasetInfo info;
    info.vocab_size = 32768;
    info.tokenizer_sha256 = "random tokens";
    info.sources = {{"random", "", ""}};
    std::uint64_t drawn = 0;
    write_seconds_ = seconds_of([&] {
      data::DatasetWriter writer(folder_, info);
      for (std::span<const std::int32_t> rest = tokens; !rest.empty();) {
        const auto count = std::min(rest.size(), static_cast<std::size_t>(20 + random.below(drawn++, 1180)));
        writer.add("train", {.tokens = rest.first(count), .hash = {drawn, 0}, .file = "random"});
        rest = rest.subspan(count);
      }
      written_ = writer.finish().shards[0].bytes;
    });
    // The same number of bytes, as the disk takes them from anyone.
    const std::string plain(static_cast<std::size_t>(written_), 'x');
    disk_seconds_ = seconds_of([&] { write_file(folder_ / "plain", plain); });
    fs::remove(folder_ / "plain");
  }
  ~TemporaryDataset() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  TemporaryDataset(const TemporaryDataset&) = delete;
  TemporaryDataset& operator=(const TemporaryDataset&) = delete;
  const fs::path& folder() const { return folder_; }
  double write_mb_s() const { return static_cast<double>(written_) / write_seconds_ / 1e6; }
  double disk_write_mb_s() const { return static_cast<double>(written_) / disk_seconds_ / 1e6; }

 private:
  fs::path folder_;
  std::int64_t written_ = 0;
  double write_seconds_ = 0, disk_seconds_ = 0;
};

// Bytes that one thread copies in a second.
double copy_gb_s() {
  const std::vector<char> from(std::size_t{256} << 20, 'x');
  std::vector<char> to(from.size());
  return 1e-9 * static_cast<double>(from.size()) /
         median_seconds([&] { std::memcpy(to.data(), from.data(), from.size()); });
}

bool drop_caches() {
  ::sync();
  std::ofstream out("/proc/sys/vm/drop_caches");
  out << "1" << std::flush;
  return out.good();
}

void read_file(const fs::path& path) {
  std::vector<char> buffer(std::size_t{1} << 20);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  while (::read(fd, buffer.data(), buffer.size()) > 0) {
  }
  ::close(fd);
}

}  // namespace

int bench_loader(const BenchOptions& options) {
  options.apply_threads();
  std::optional<TemporaryDataset> temporary;
  if (options.folder.empty()) temporary.emplace();
  const fs::path folder = temporary ? temporary->folder() : fs::path(options.folder);
  const auto open = [&](bool verify) {
    return std::make_shared<const data::Dataset>(folder, "train", data::ReadOptions{.verify_blocks = verify});
  };
  auto dataset = open(true);
  double stored = 0;
  for (const auto& shard : dataset->shards()) stored += static_cast<double>(shard->file_bytes());
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
  const auto figure = [&](const char* key, double value, const std::string& line) {
    object[key] = value;
    text += line + "\n";
  };
  if (temporary) {
    const double ours = temporary->write_mb_s(), disk = temporary->disk_write_mb_s();
    figure("write_mb_s", ours, fmt::format("writing a shard        {:>8.0f} MB/s, tokens to an fsynced file", ours));
    figure("disk_write_mb_s", disk, fmt::format("plain bytes, fsynced   {:>8.0f} MB/s", disk));
  }

  const auto epoch = [&](bool verify) {  // opening, an order of documents, every token once
    data::DataLoader loader(open(verify), config, 0);
    data::Batch batch;
    return seconds_of([&] {
      for (std::int64_t i = loader.steps_in(1); i > 0; --i) loader.next(batch);
    });
  };
  if (drop_caches()) {
    const double disk = stored / 1e6 / seconds_of([&] {
                          for (const auto& shard : dataset->shards()) read_file(shard->path());
                        });
    dataset.reset();  // mapped pages stay in the cache
    drop_caches();
    const double cold = stored / 1e6 / epoch(true);
    figure("disk_read_mb_s", disk, fmt::format("reading files, cold    {:>8.0f} MB/s", disk));
    figure("cold_epoch_mb_s", cold, fmt::format("an epoch, cold         {:>8.0f} MB/s of shards", cold));
  }
  epoch(false);
  const double with = epoch(true), without = epoch(false);
  figure("first_epoch_s", with, fmt::format("first epoch            {:>8.3f} s, blocks verified", with));
  figure("first_epoch_unverified_s", without, fmt::format("                       {:>8.3f} s, not verified", without));

  dataset = open(true);
  const auto tokens = static_cast<double>(options.sequence * options.batch);
  // A batch has four columns of 4 bytes: token, label, weight, position.
  const double token_gb = 16e-9, copy = copy_gb_s();
  figure("memory_copy_gb_s", copy, fmt::format("memory copy            {:>8.1f} GB/s", copy));
  for (const int prefetch : {0, 2}) {
    data::DataLoader loader(dataset, config, prefetch);
    data::Batch batch;
    for (std::int64_t i = loader.steps_in(1); i > 0; --i) loader.next(batch);  // now every block is verified
    const double rate = tokens / median_seconds([&] { loader.next(batch); }, 1.0);
    figure(prefetch == 0 ? "tokens_per_s" : "tokens_per_s_prefetched", rate,
           fmt::format("{:<22} {:>8.1f} M tokens/s, {:.1f} GB/s of batches",
                       prefetch == 0 ? "without the thread" : "with its thread", rate / 1e6, rate * token_gb));
    if (prefetch == 0)
      figure("share_of_memory_copy", rate * token_gb / copy,
             fmt::format("                       {:>8.2f} of memory copy", rate * token_gb / copy));
  }
  options.report.print(text, object);
  return 0;
}

}  // namespace dujiang::launch
