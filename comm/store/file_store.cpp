// The file store: one file per key in a folder that all ranks share. Every file is written under another name and then
// renamed, so that a reader sees all of it or nothing.
//
// Rank 0 makes "session", which holds the token. Another rank puts down "hello-RANK-ID", where ID is its own; rank 0
// answers with "welcome-RANK-ID", which proves that the session is alive and not a leftover, or "refused-RANK-ID". A
// rank that ends in order puts down "left-RANK".

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "comm/store/gone_ranks.h"
#include "comm/store/store.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Values = std::vector<std::pair<std::string, std::string>>;

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

// Letters, digits, dots and underlines stay; the rest becomes %XX.
std::string escaped(std::string_view key) {
  std::string name;
  for (const char c : key) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
    name += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return name;
}

std::string unescaped(std::string_view name) {
  std::string key;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] != '%' || i + 2 >= name.size()) {
      key += name[i];
    } else {
      key += static_cast<char>(std::stoi(std::string(name.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    }
  }
  return key;
}

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// A process, told from a later one with its number by when it started, and from one of another host or container.
struct Process {
  std::string host;  ///< name, boot and space of process numbers; without spaces
  int pid = 0;
  std::string start;

  static std::string this_host() {
    std::array<char, 256> name{}, space{};
    gethostname(name.data(), name.size() - 1);
    if (readlink("/proc/self/ns/pid", space.data(), space.size() - 1) < 0) space[0] = '?';
    return fmt::format("{}/{}/{}", name.data(), first_line("/proc/sys/kernel/random/boot_id"), space.data());
  }

  // The 22nd field of /proc/PID/stat; empty when there is no such process, or it has ended and is only not yet reaped.
  static std::string start_of(int pid) {
    const auto line = first_line(fmt::format("/proc/{}/stat", pid));
    const auto name_end = line.rfind(')');
    if (name_end == std::string::npos) return {};
    std::istringstream rest(line.substr(name_end + 1));
    std::string field;
    for (int i = 3; i <= 22 && rest >> field; ++i) {
      if (i == 3 && (field == "Z" || field == "X")) return {};
    }
    return field;
  }

  static Process self() { return {this_host(), getpid(), start_of(getpid())}; }
  std::string str() const { return fmt::format("{} {} {}", host, pid, start); }
  static Process read(std::istream& in) {
    Process p;
    in >> p.host >> p.pid >> p.start;
    return p;
  }
  bool is_here() const { return host == this_host(); }
  bool has_ended() const { return is_here() && start_of(pid) != start; }
  std::string where() const { return fmt::format("process {} on {}", pid, host.substr(0, host.find('/'))); }
};

class FileStore : public Store {
 public:
  FileStore(std::string folder, int rank, int size)
      : folder_(std::move(folder)), rank_(rank), size_(size), self_(Process::self()) {
    std::random_device random;
    id_ = fmt::format("{:08x}{:08x}", random(), random());
  }

  ~FileStore() override {
    if (joined_ && ends_in_order()) leave();
    stop();
  }

  void open(std::string_view token, Deadline deadline) {
    std::error_code error;
    made_folder_ = fs::create_directories(folder_, error);
    if (error || access(folder_.c_str(), W_OK | X_OK) != 0) {
      fail_user(
          "the folder {} of the ranks' store can't be used: {}. DUJIANG_STORE has to be a folder that all ranks "
          "share and may write to",
          folder_, error ? error.message() : std::strerror(errno));
    }
    if (rank_ == 0) {
      begin_session(token);
      processes_[0] = self_;
      joined_ = true;
      thread_ = std::thread([this] { look_after(); });
    } else {
      join_session(token, deadline);
      joined_ = true;
      thread_ = std::thread([this] { look_after(); });
    }
  }

  void set(std::string_view key, std::string_view value) override {
    check_value(key, value);
    write("key-" + key_file(key), value);
  }

  std::optional<std::string> get(std::string_view key) override {
    check_key(key);
    return content("key-" + key_file(key));
  }

  Values list(std::string_view prefix) override {
    Values found;
    for (const auto& name : names()) {
      if (!name.starts_with("key-")) continue;
      auto key = unescaped(std::string_view(name).substr(4));
      if (!key.starts_with(prefix)) continue;
      if (auto value = content(name)) found.emplace_back(std::move(key), std::move(*value));
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  void remove(std::string_view key) override {
    check_key(key);
    std::error_code error;
    fs::remove(path("key-" + key_file(key)), error);
  }

  std::vector<int> gone() override { return gone_.all(); }
  void on_gone(std::function<void()> listener) override { gone_.listen(std::move(listener)); }

  std::string where() const override { return "file " + folder_; }

 private:
  static std::string key_file(std::string_view key) {
    auto name = escaped(key);
    DUJIANG_CHECK(name.size() <= 200, "key \"{}\" is too long for a store in files", key);
    return name;
  }

  fs::path path(const std::string& name) const { return fs::path(folder_) / name; }

  std::vector<std::string> names() const {
    std::vector<std::string> found;
    std::error_code error;
    for (fs::directory_iterator i(folder_, error), end; !error && i != end; i.increment(error)) {
      found.push_back(i->path().filename().string());
    }
    return found;
  }

  std::optional<std::string> content(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    if (!file) {
      if (errno == ENOENT && fs::exists(folder_)) return std::nullopt;
      fail("the store {} can't be read: {}: {}", folder_, name, std::strerror(errno));
    }
    std::ostringstream all;
    all << file.rdbuf();
    return all.str();
  }

  // False when `only_new` and the name is there already.
  bool write(const std::string& name, std::string_view value, bool only_new = false) {
    const auto part = path(fmt::format("part-{}-{}-{}", rank_, id_, parts_++));
    std::ofstream file(part, std::ios::binary);
    file << value;
    file.close();
    int failed = file ? 0 : -1;
    if (failed == 0)
      failed = only_new ? link(part.c_str(), path(name).c_str()) : rename(part.c_str(), path(name).c_str());
    const int error = errno;
    if (failed != 0 || only_new) unlink(part.c_str());
    if (failed != 0 && only_new && error == EEXIST) return false;
    if (failed != 0) fail("the store {} can't be written: {}: {}", folder_, name, std::strerror(error));
    return true;
  }

  static bool is_ours(const std::string& name) {
    return name == "session" || std::any_of(prefixes.begin(), prefixes.end(),
                                            [&](std::string_view prefix) { return name.starts_with(prefix); });
  }

  void clean() {
    std::error_code error;
    fs::remove(path("session"), error);
    for (const auto& name : names()) {
      if (is_ours(name)) fs::remove(path(name), error);
    }
  }

  // "TOKEN SIZE PROCESS", the token in hexadecimal digits.
  void begin_session(std::string_view token) {
    if (const auto session = content("session")) {
      std::istringstream in(*session);
      std::string token_there;
      int size = 0;
      in >> token_there >> size;
      const auto process = Process::read(in);
      if (token_there != hex(token)) refuse_leftover();
      if (!process.is_here()) {
        fail_user(
            "the folder {} holds the store of {}: rank 0 of a job that still runs or was killed. Remove the folder, "
            "or set DUJIANG_STORE to another for all ranks",
            folder_, process.where());
      }
      if (!process.has_ended()) {
        fail_user("rank 0 is already there ({}, store {}): is RANK set twice?", process.where(), folder_);
      }
    }
    // What a killed job left, down to keys without a session.
    clean();
    if (!write("session", fmt::format("{} {} {}", hex(token), size_, self_.str()), true)) {
      fail_user("rank 0 is already there (store {}): is RANK set twice?", folder_);
    }
  }

  void join_session(std::string_view token, Deadline deadline) {
    const auto start = Clock::now();
    const auto suffix = fmt::format("-{}-{}", rank_, id_);
    for (auto pause = 5ms;; pause = std::min(2 * pause, 200ms)) {
      const auto session = content("session");
      if (session) {
        if (session->substr(0, session->find(' ')) != hex(token)) refuse_leftover();
        if (content("welcome" + suffix)) return;
        if (const auto why = content("refused" + suffix)) fail_user("store {}: {}", where(), *why);
        // Again and again, as rank 0 cleans up what a killed job left.
        if (!fs::exists(path("hello" + suffix))) write("hello" + suffix, fmt::format("{} {}", size_, self_.str()));
      }
      const auto now = Clock::now();
      if (now >= deadline) {
        std::error_code error;
        fs::remove(path("hello" + suffix), error);
        fail_user(
            "rank {} of {} waited {:.1f} s for rank 0 in the store {}: {}. Has rank 0 started, and is DUJIANG_STORE "
            "the same folder for all ranks?",
            rank_, size_, std::chrono::duration<double>(now - start).count(), where(),
            session ? "it holds a session whose rank 0 doesn't answer, perhaps left over from a killed job"
                    : "it is empty");
      }
      std::this_thread::sleep_until(std::min(deadline, now + pause));
    }
  }

  [[noreturn]] void refuse_leftover() const {
    fail_user(
        "the folder {} holds the store of another job (its token differs): remove the folder, or set DUJIANG_STORE "
        "to another for all ranks, and DUJIANG_JOB_TOKEN to the same",
        folder_);
  }

  // The thread: rank 0 answers the others' hello; every rank looks whether processes of its host are still there.
  void look_after() {
    auto pause = 5ms;
    std::unique_lock lock(thread_mutex_);
    while (!stop_) {
      lock.unlock();
      bool news = false;
      try {
        news = look();
      } catch (const std::exception&) {
        // A file system that doesn't answer now may later; who uses the store hears of it.
      }
      lock.lock();
      pause = news ? 5ms : std::min(2 * pause, 200ms);
      changed_.wait_for(lock, pause, [this] { return stop_; });
    }
  }

  bool look() {
    bool news = false;
    const auto all = names();
    for (const auto& name : all) {
      int rank = 0;
      if (rank_ == 0 && name.starts_with("hello-")) {
        news = true;
        answer(name);
      } else if (name.starts_with("welcome-") && std::sscanf(name.c_str(), "welcome-%d-", &rank) == 1 &&
                 !processes_.contains(rank)) {
        std::istringstream in(content(name).value_or(""));
        processes_[rank] = Process::read(in);
      }
    }
    if (rank_ != 0 && !processes_.contains(0)) {
      std::istringstream in(content("session").value_or(""));
      std::string token;
      int size = 0;
      in >> token >> size;
      processes_[0] = Process::read(in);
    }
    bool grown = false;
    for (const auto& [rank, process] : processes_) {
      if (rank == rank_ || left_.contains(rank) || !process.has_ended()) continue;
      // The farewell comes before the end, so it is looked for after the end was seen.
      if (content(fmt::format("left-{}", rank))) {
        left_.insert(rank);
        continue;
      }
      grown = gone_.add(rank) || grown;
    }
    if (grown) gone_.tell();
    return news;
  }

  void answer(const std::string& hello) {
    int rank = 0, size = 0;
    const auto text = content(hello);
    if (!text || std::sscanf(hello.c_str(), "hello-%d-", &rank) != 1) return;
    std::istringstream in(*text);
    in >> size;
    const auto process = Process::read(in);
    const auto suffix = hello.substr(std::strlen("hello"));
    std::error_code error;
    // It may say hello once more while it is being answered.
    if (fs::exists(path("welcome" + suffix))) {
      fs::remove(path(hello), error);
      return;
    }
    std::string why;
    if (size != size_) {
      why = fmt::format(
          "rank {} came from {} for a job of {} ranks, but rank 0 serves one of {}: is WORLD_SIZE the same "
          "for all?",
          rank, process.where(), size, size_);
    } else if (rank < 1 || rank >= size_) {
      why = fmt::format("there is no rank {} of {}", rank, size_);
    } else if (processes_.contains(rank)) {
      why = fmt::format("rank {} is already there ({}): is RANK set twice?", rank, processes_.at(rank).where());
    }
    if (why.empty()) {
      processes_[rank] = process;
      write("welcome" + suffix, process.str());
    } else {
      set("refused", why);
      write("refused" + suffix, why);
    }
    fs::remove(path(hello), error);
  }

  void leave() noexcept {
    try {
      write(fmt::format("left-{}", rank_), "");
      if (rank_ != 0) return;
      const auto until = Clock::now() + 5s;
      while (Clock::now() < until && !all_left()) std::this_thread::sleep_for(20ms);
      stop();
      clean();
      std::error_code error;
      if (made_folder_) fs::remove(folder_, error);  // unless somebody put something there
    } catch (const std::exception&) {
      // The folder has gone: nobody to part from.
    }
  }

  bool all_left() {
    const auto ended = gone();
    for (const auto& name : names()) {
      int rank = 0;
      if (!name.starts_with("welcome-") || std::sscanf(name.c_str(), "welcome-%d-", &rank) != 1) continue;
      if (std::find(ended.begin(), ended.end(), rank) == ended.end() &&
          !fs::exists(path(fmt::format("left-{}", rank)))) {
        return false;
      }
    }
    return true;
  }

  void stop() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(thread_mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  static constexpr std::array<std::string_view, 6> prefixes{"key-", "hello-", "welcome-", "refused-", "left-", "part-"};

  const std::string folder_;
  const int rank_, size_;
  const Process self_;
  std::string id_;
  bool made_folder_ = false, joined_ = false;
  std::atomic<std::uint64_t> parts_{0};

  std::map<int, Process> processes_;  ///< the thread's, once it runs
  std::set<int> left_;

  GoneRanks gone_;

  std::mutex thread_mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace

std::shared_ptr<Store> open_file_store(const std::string& folder, std::string_view token, int rank, int size,
                                       Deadline deadline) {
  auto store = std::make_shared<FileStore>(folder, rank, size);
  store->open(token, deadline);
  return store;
}

}  // namespace dujiang::comm
