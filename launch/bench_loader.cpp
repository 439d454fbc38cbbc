#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
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

// The rates of several rounds.
class Rates {
 public:
  void add(double rate) { all_.push_back(rate); }
  bool empty() const { return all_.empty(); }
  double median() const {
    auto sorted = all_;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
  /// The median of the rounds' quotients: what is compared was measured one after the other.
  double share_of(const Rates& other) const {
    Rates shares;
    for (std::size_t i = 0; i < all_.size(); ++i) shares.add(all_[i] / other.all_[i]);
    return shares.median();
  }

 private:
  std::vector<double> all_;
};

constexpr int rounds = 5;

// 64 Mi random tokens in documents of 20 to 1,200, removed in the end.
class TemporaryDataset {
 public:
  TemporaryDataset() : folder_(fs::temp_directory_path() / fmt::format("dujiang-bench-{}", getpid())) {
    const Philox random(1, stream_of("bench.loader"));
    tokens_.resize(std::size_t{64} << 20);
    for (std::size_t i = 0; i < tokens_.size(); i += 8) {
      const auto words = random.block(i / 8);
      for (std::size_t w = 0; w < 4; ++w) {
        tokens_[i + 2 * w] = static_cast<std::int32_t>(words[w] & 0x7fff);
        tokens_[i + 2 * w + 1] = static_cast<std::int32_t>(words[w] >> 17);
      }
    }
    const fs::path memory = "/dev/shm";  // a file system in memory, where fsync costs nothing
    std::error_code none;
    for (int round = 0; round < rounds; ++round) {
      if (fs::space(memory, none).available > std::uintmax_t{1} << 29 && !none) {
        const fs::path there = memory / folder_.filename();
        in_memory.add(write(there));
        fs::remove_all(there);
      }
      fs::remove_all(folder_);
      written.add(write(folder_));
      // The same number of bytes, as the disk takes them from anyone.
      const std::string plain(bytes_, 'x');
      disk.add(mb() / seconds_of([&] { write_file(folder_ / "plain", plain); }));
      fs::remove(folder_ / "plain");
    }
    tokens_ = {};
  }
  ~TemporaryDataset() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  TemporaryDataset(const TemporaryDataset&) = delete;
  TemporaryDataset& operator=(const TemporaryDataset&) = delete;
  const fs::path& folder() const { return folder_; }

  Rates written, in_memory, disk;  ///< MB/s; in_memory may be empty

 private:
  double mb() const { return static_cast<double>(bytes_) / 1e6; }
  double write(const fs::path& folder) {
    data::DatasetInfo info;
    info.vocab_size = 32768;
    info.tokenizer_sha256 = "random tokens";
    info.sources = {{"random", "", ""}};
    const Philox random(2, stream_of("bench.loader"));
    std::uint64_t drawn = 0;
    const double seconds = seconds_of([&] {
      data::DatasetWriter writer(folder, info);
      for (std::span<const std::int32_t> rest = tokens_; !rest.empty();) {
        const auto count = std::min(rest.size(), static_cast<std::size_t>(20 + random.below(drawn++, 1180)));
        writer.add("train", {.tokens = rest.first(count), .hash = {drawn, 0}, .file = "random"});
        rest = rest.subspan(count);
      }
      bytes_ = static_cast<std::size_t>(writer.finish().shards[0].bytes);
    });
    return mb() / seconds;
  }

  fs::path folder_;
  std::vector<std::int32_t> tokens_;
  std::size_t bytes_ = 0;
};

// Takes files' pages out of the page cache, those that nobody has mapped.
void forget(const std::vector<fs::path>& files) {
  for (const auto& file : files) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
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
  std::vector<fs::path> files;
  for (const auto& shard : dataset->shards()) {
    stored += static_cast<double>(shard->file_bytes()) / 1e6;
    files.push_back(shard->path());
  }
  data::LoaderConfig config;
  config.sequence_length = options.sequence;
  config.global_batch = config.count = options.batch;
  config.seed = 1;

  std::string text = fmt::format("{}: {} documents, {} tokens; batches of {} x {}; medians of {} rounds\n",
                                 temporary ? "random tokens" : folder.string(), dataset->documents(), dataset->tokens(),
                                 options.batch, options.sequence, rounds);
  nlohmann::json object = {{"data", temporary ? "random" : folder.string()},
                           {"dataset_tokens", dataset->tokens()},
                           {"sequence_length", options.sequence},
                           {"batch", options.batch},
                           {"rounds", rounds}};
  const auto figure = [&](const char* key, double value, const std::string& line) {
    object[key] = value;
    text += line + "\n";
  };
  if (temporary) {
    const Rates &written = temporary->written, &disk = temporary->disk, &memory = temporary->in_memory;
    object["share_of_disk_write"] = written.share_of(disk);
    figure("disk_write_mb_s", disk.median(), fmt::format("plain bytes, fsynced   {:>8.0f} MB/s", disk.median()));
    figure(
        "write_mb_s", written.median(),
        fmt::format("writing a shard        {:>8.0f} MB/s, {:.2f} of that", written.median(), written.share_of(disk)));
    if (!memory.empty())
      figure("write_memory_mb_s", memory.median(),
             fmt::format("  into memory          {:>8.0f} MB/s", memory.median()));
  }

  const auto epoch = [&](bool verify) {  // opening, an order of documents, every token once
    return seconds_of([&] {
      data::DataLoader loader(open(verify), config, 0);
      data::Batch batch;
      for (std::int64_t i = loader.steps_in(1); i > 0; --i) loader.next(batch);
    });
  };
  dataset.reset();  // mapped pages stay in the cache
  Rates plain, cold, disk_when_cold, warm, unverified;
  for (int round = 0; round < rounds; ++round) {
    forget(files);
    plain.add(stored / seconds_of([&] { std::ranges::for_each(files, read_file); }));
    forget(files);
    const double first = epoch(true), again = epoch(true);
    cold.add(stored / first);
    disk_when_cold.add(stored / std::max(first - again, 1e-9));
    warm.add(stored / again);
    unverified.add(stored / epoch(false));
  }
  object["share_of_disk_read"] = disk_when_cold.share_of(plain);
  figure("disk_read_mb_s", plain.median(), fmt::format("reading files, cold    {:>8.0f} MB/s", plain.median()));
  figure("cold_epoch_mb_s", cold.median(),
         fmt::format("a cold epoch           {:>8.0f} MB/s of shards", cold.median()));
  figure("warm_epoch_mb_s", warm.median(), fmt::format("a warm one             {:>8.0f} MB/s", warm.median()));
  figure("unverified_epoch_mb_s", unverified.median(),
         fmt::format("  unverified           {:>8.0f} MB/s", unverified.median()));
  figure("cold_read_mb_s", disk_when_cold.median(),
         fmt::format("what cold takes more   {:>8.0f} MB/s, {:.2f} of reading files", disk_when_cold.median(),
                     disk_when_cold.share_of(plain)));

  dataset = open(true);
  const double batch_gb = 16e-9 * static_cast<double>(options.sequence * options.batch);  // four columns of 4 bytes
  const std::vector<char> from(std::size_t{256} << 20, 'x');
  std::vector<char> to(from.size());
  data::DataLoader alone(dataset, config, 0), threaded(dataset, config, 2);
  data::Batch batch, other;
  for (std::int64_t i = alone.steps_in(1); i > 0; --i) alone.next(batch);  // now every block is verified
  Rates copy, direct, prefetched, wait;
  for (int round = 0; round < rounds; ++round) {
    copy.add(1e-9 * static_cast<double>(from.size()) /
             median_seconds([&] { std::memcpy(to.data(), from.data(), from.size()); }, 0.1));
    const double seconds = median_seconds([&] { alone.next(batch); }, 0.2);
    direct.add(batch_gb / seconds);
    const int count = std::clamp(static_cast<int>(0.2 / seconds), 10, 10000);
    threaded.next(other);
    prefetched.add(count * batch_gb / seconds_of([&] {
                     for (int i = 0; i < count; ++i) threaded.next(other);
                   }));
    double waited = 0;
    for (int i = 0; i < count; ++i) {
      const auto start = std::chrono::steady_clock::now();
      while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 2 * seconds) {
      }
      waited += seconds_of([&] { threaded.next(other); });
    }
    wait.add(waited / count * 1e6);
  }
  figure("memory_copy_gb_s", copy.median(), fmt::format("memory copy            {:>8.1f} GB/s", copy.median()));
  object["share_of_memory_copy"] = direct.share_of(copy);
  const auto tokens_per_s = [](const Rates& rates) { return rates.median() * 1e9 / 16; };
  figure("tokens_per_s", tokens_per_s(direct),
         fmt::format("batches, warm          {:>8.1f} GB/s, {:.2f} of memory copy, {:.1f} M tokens/s", direct.median(),
                     direct.share_of(copy), tokens_per_s(direct) / 1e6));
  figure("tokens_per_s_prefetched", tokens_per_s(prefetched),
         fmt::format("  from the thread      {:>8.1f} GB/s, {:.2f} of memory copy", prefetched.median(),
                     prefetched.share_of(copy)));
  figure("wait_us", wait.median(),
         fmt::format("  waiting for it       {:>8.1f} us a batch, by a caller at work twice as long", wait.median()));
  options.report.print(text, object);
  return 0;
}

}  // namespace dujiang::launch
