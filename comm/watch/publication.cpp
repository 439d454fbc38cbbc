#include "comm/watch/publication.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

namespace dujiang::comm {
namespace {

constexpr int dtype_count = static_cast<int>(Dtype::u64) + 1;

// The path of the source tree, as the compiler was given it.
constexpr std::string_view source_root() {
  constexpr std::string_view self = "comm/watch/publication.cpp", file = __FILE__;
  return file.ends_with(self) ? file.substr(0, file.size() - self.size()) : std::string_view();
}

// Words of a line, separated by single spaces.
class Words {
 public:
  explicit Words(std::string_view line) : rest_(line) {}

  std::string_view next() {
    const auto end = std::min(rest_.find(' '), rest_.size());
    const auto word = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    good_ = good_ && !word.empty();
    return word;
  }
  template <class T>
  T number(T smallest, T largest) {
    const auto word = next();
    T value = smallest;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    good_ = good_ && error == std::errc() && end == word.data() + word.size() && value >= smallest && value <= largest;
    return good_ ? value : smallest;
  }
  template <class T>
  T number() {
    return number(std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max());
  }
  std::string_view rest() const { return rest_; }
  bool good() const { return good_; }

 private:
  std::string_view rest_;
  bool good_ = true;
};

// "0-7,12": ascending or not, as the communicator orders them.
std::string ranges(const std::vector<int>& members) {
  std::string text;
  for (std::size_t i = 0; i < members.size();) {
    std::size_t last = i;
    while (last + 1 < members.size() && members[last + 1] == members[last] + 1) ++last;
    text += text.empty() ? "" : ",";
    text += last == i ? fmt::format("{}", members[i]) : fmt::format("{}-{}", members[i], members[last]);
    i = last + 1;
  }
  return text;
}

bool read_ranges(std::string_view text, std::vector<int>& members) {
  constexpr int most = 1 << 20;
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    std::string part(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    const auto dash = part.find('-');
    if (dash != std::string::npos) part[dash] = ' ';
    Words words(part);
    const int first = words.number(0, most);
    const int last = dash == std::string::npos ? first : words.number(first, most);
    if (!words.good()) return false;
    for (int r = first; r <= last; ++r) members.push_back(r);
  }
  return true;
}

std::string encode(const Publication& publication, std::size_t limit, std::size_t finished_kept) {
  std::string text = fmt::format("flight {}\n", publication.clock_ms);
  for (const auto& c : publication.communicators) {
    std::string part =
        fmt::format("{} {} {} {}\n", c.closed ? "closed" : "open", c.name, c.sequence, ranges(c.members));
    const auto finished = static_cast<std::size_t>(
        std::count_if(c.operations.begin(), c.operations.end(), [](const auto& o) { return o.finished; }));
    std::size_t left_out = finished - std::min(finished, finished_kept);
    for (const auto& o : c.operations) {
      if (o.finished && left_out > 0) {
        --left_out;
        continue;
      }
      part += encode(o) + "\n";
    }
    if (text.size() + part.size() > limit) break;
    text += part;
  }
  return text;
}

}  // namespace

std::optional<int> rank_after(std::string_view key, std::string_view prefix) {
  if (!key.starts_with(prefix)) return {};
  const std::string word(key.substr(prefix.size()));
  Words words(word);
  const int rank = words.number(0, std::numeric_limits<int>::max());
  if (!words.good() || !words.rest().empty()) return {};
  return rank;
}

std::int64_t clock_ms(Flight::Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

std::string place_of(std::string_view file, std::uint32_t line) {
  if (file.starts_with(source_root())) file.remove_prefix(source_root().size());
  return fmt::format("{}:{}", file, line);
}

std::string place_of(const std::source_location& where) {
  return place_of(where.file_name(), where.line());
}

const SeenOperation* SeenCommunicator::find(std::uint64_t number) const {
  const auto found = std::find_if(operations.begin(), operations.end(),
                                  [&](const SeenOperation& o) { return number > 0 && o.sequence == number; });
  return found == operations.end() ? nullptr : &*found;
}

const SeenCommunicator* Publication::find(std::string_view name) const {
  const auto found = std::find_if(communicators.begin(), communicators.end(),
                                  [&](const SeenCommunicator& c) { return c.name == name; });
  return found == communicators.end() ? nullptr : &*found;
}

SeenOperation seen(const Flight::Entry& entry) {
  const bool finished = entry.finished != Flight::Clock::time_point();
  return {entry.sequence, entry.signature, place_of(entry.where), finished,
          clock_ms(finished ? entry.finished : entry.requested)};
}

SeenCommunicator seen(const Flight::Snapshot& snapshot, bool closed) {
  SeenCommunicator c{snapshot.name, snapshot.members, snapshot.sequence, closed, {}};
  for (const auto* entries : {&snapshot.recent, &snapshot.pending}) {
    for (const auto& entry : *entries) c.operations.push_back(seen(entry));
  }
  return c;
}

std::string encode(const SeenOperation& o) {
  const auto& s = o.signature;
  return fmt::format("{} {} {} {} {} {} {} {} {}", o.finished ? "finished" : "pending", o.sequence, o.at_ms,
                     static_cast<int>(s.op), static_cast<int>(s.dtype), static_cast<int>(s.reduce), s.root, s.count,
                     o.where);
}

std::optional<SeenOperation> decode_operation(std::string_view line) {
  Words words(line);
  SeenOperation o;
  const auto kind = words.next();
  if (kind != "finished" && kind != "pending") return {};
  o.finished = kind == "finished";
  o.sequence = words.number<std::uint64_t>();
  o.at_ms = words.number<std::int64_t>();
  o.signature.op = static_cast<Op>(words.number(0, op_count - 1));
  o.signature.dtype = static_cast<Dtype>(words.number(0, dtype_count - 1));
  o.signature.reduce = static_cast<Reduce>(words.number(0, static_cast<int>(Reduce::avg)));
  o.signature.root = words.number<std::int32_t>();
  o.signature.count = words.number<std::int64_t>();
  o.where = words.rest();
  if (!words.good()) return {};
  return o;
}

std::string encode(const Publication& publication, std::size_t limit) {
  for (const std::size_t kept : {std::size_t{16}, std::size_t{2}}) {
    std::string text = encode(publication, std::string::npos, kept);
    if (text.size() <= limit) return text;
  }
  return encode(publication, limit, 1);
}

std::optional<Publication> decode(std::string_view text) {
  Publication publication;
  bool first = true;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    Words words(line);
    const auto kind = words.next();
    if (first) {
      publication.clock_ms = words.number<std::int64_t>();
      if (kind != "flight" || !words.good()) return {};
      first = false;
    } else if (kind == "open" || kind == "closed") {
      SeenCommunicator c;
      c.closed = kind == "closed";
      c.name = words.next();
      c.sequence = words.number<std::uint64_t>();
      if (!words.good() || !read_ranges(words.rest(), c.members)) return {};
      publication.communicators.push_back(std::move(c));
    } else {
      auto operation = decode_operation(line);
      if (!operation || publication.communicators.empty()) return {};
      publication.communicators.back().operations.push_back(std::move(*operation));
    }
  }
  if (first) return {};
  return publication;
}

}  // namespace dujiang::comm
