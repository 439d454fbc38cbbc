#include "data/tokenizer/train_byte_bpe.h"

#include <algorithm>
#include <memory>
#include <queue>

#include "framework/base/check.h"

namespace dujiang::data {

namespace {

constexpr std::uint32_t gap = 0xFFFFFFFF;   // between pieces
constexpr std::uint32_t dead = 0xFFFFFFFE;  // inside a token
constexpr std::size_t ahead = 12;           // occurrences whose memory is asked for early

// All pieces as tokens. A token has its id at its first and at its last byte, so that both neighbours are found.
class Text {
 public:
  explicit Text(std::vector<PieceCount> pieces) {
    // Pieces of one count stand together, so that a place's count needs no memory of its own.
    std::sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) { return a.count > b.count; });
    std::size_t size = 1;
    for (const PieceCount& piece : pieces) size += piece.bytes.size() + 1;
    if (size >= dead)
      fail_user("tokenizer: {} bytes of distinct pieces to train on, at most 4 GiB; lower sample_bytes", size);
    std::array<std::uint32_t, 256> ids{};
    for (std::uint32_t id = 0; id < 256; ++id) ids[bytes_in_order()[id]] = id;
    at_.reserve(size);
    at_.push_back(gap);
    for (const PieceCount& piece : pieces) {
      if (begins_.empty() || counts_.back() != piece.count) {
        begins_.push_back(static_cast<std::uint32_t>(at_.size()));
        counts_.push_back(piece.count);
      }
      for (const char byte : piece.bytes) at_.push_back(ids[static_cast<unsigned char>(byte)]);
      at_.push_back(gap);
    }
  }

  std::uint32_t operator[](std::size_t place) const { return at_[place]; }
  std::uint32_t& operator[](std::size_t place) { return at_[place]; }
  std::size_t size() const { return at_.size(); }
  void prefetch(std::size_t place) const { __builtin_prefetch(&at_[place], 1); }
  /// How often the piece at this place occurs.
  std::int64_t count(std::uint32_t place) const {
    if (place >= begins_.back()) return counts_.back();
    return counts_[static_cast<std::size_t>(std::upper_bound(begins_.begin(), begins_.end(), place) - begins_.begin() -
                                            1)];
  }
  bool empty() const { return begins_.empty(); }

 private:
  std::vector<std::uint32_t> at_;
  std::vector<std::uint32_t> begins_;  // of each count's pieces
  std::vector<std::int64_t> counts_;
};

struct Pair {
  std::uint32_t left, right;
  std::int64_t count;
  std::unique_ptr<std::uint32_t[]> places;  // where it was met, ascending; some may be gone since
  std::uint32_t places_size;
};

// Open addressing over the numbers of pairs.
class PairTable {
 public:
  explicit PairTable(const std::vector<Pair>& pairs) : pairs_(pairs), slots_(std::size_t{1} << 16, none) {}

  /// The pair's number, or none.
  std::uint32_t find(std::uint32_t left, std::uint32_t right) const {
    std::size_t slot = slot_of(left, right);
    while (slots_[slot] != none && (pairs_[slots_[slot]].left != left || pairs_[slots_[slot]].right != right))
      slot = (slot + 1) & (slots_.size() - 1);
    return slots_[slot];
  }
  /// The last pair's number goes in.
  void add_last() {
    if (pairs_.size() * 2 > slots_.size()) {
      slots_.assign(slots_.size() * 2, none);
      for (std::uint32_t number = 0; number + 1 < pairs_.size(); ++number) put(number);
    }
    put(static_cast<std::uint32_t>(pairs_.size() - 1));
  }

  static constexpr std::uint32_t none = 0xFFFFFFFF;

 private:
  std::size_t slot_of(std::uint32_t left, std::uint32_t right) const {
    const std::uint64_t mixed = ((std::uint64_t{left} << 32) | right) * 0x9E3779B97F4A7C15ull;
    return (mixed >> 20) & (slots_.size() - 1);
  }
  void put(std::uint32_t number) {
    std::size_t slot = slot_of(pairs_[number].left, pairs_[number].right);
    while (slots_[slot] != none) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = number;
  }

  const std::vector<Pair>& pairs_;
  std::vector<std::uint32_t> slots_;
};

// What a merge found on one side of itself: for each neighbour how often, and where the new pairs begin.
class Neighbours {
 public:
  explicit Neighbours(std::size_t vocabulary) : of_(vocabulary) {}

  void add(std::uint32_t neighbour, std::int64_t count, std::uint32_t place) {
    One& one = of_[neighbour];
    if (one.places++ == 0) met_.push_back(neighbour);
    one.count += count;
    places_.emplace_back(neighbour, place);
  }
  const std::vector<std::uint32_t>& met() const { return met_; }
  std::int64_t count(std::uint32_t neighbour) const { return of_[neighbour].count; }
  std::uint32_t places(std::uint32_t neighbour) const { return of_[neighbour].places; }
  /// Where the neighbour's places go; until then they are dropped.
  void collect(std::uint32_t neighbour, std::uint32_t* out) { of_[neighbour].out = out; }
  void finish() {
    for (const auto& [neighbour, place] : places_) {
      if (std::uint32_t*& out = of_[neighbour].out) *out++ = place;
    }
    for (const std::uint32_t neighbour : met_) of_[neighbour] = {};
    met_.clear();
    places_.clear();
  }

 private:
  struct One {
    std::int64_t count = 0;
    std::uint32_t* out = nullptr;
    std::uint32_t places = 0;
  };
  std::vector<One> of_;  // by id
  std::vector<std::uint32_t> met_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> places_;
};

// Every pair is made in one step, that of the younger of its tokens, and only loses occurrences later: a token is
// always made of the same two. So a pair that is too rare when it is met need not be kept at all.
class Learner {
 public:
  Learner(const LearnMergesConfig& config, std::vector<PieceCount> pieces)
      : config_(config),
        text_(std::move(pieces)),
        table_(pairs_),
        before_(256 + static_cast<std::size_t>(config.merges)),
        behind_(256 + static_cast<std::size_t>(config.merges)) {
    for (const unsigned char byte : bytes_in_order()) {
      length_.push_back(1);
      chars_.push_back((byte & 0xC0) != 0x80);
    }
    if (!text_.empty()) meet_bytes();
  }

  std::vector<std::pair<std::int32_t, std::int32_t>> learn(const std::function<void(std::int64_t)>& progress) {
    std::vector<std::pair<std::int32_t, std::int32_t>> merges;
    while (static_cast<std::int64_t>(merges.size()) < config_.merges && !queue_.empty()) {
      const Entry top = queue_.top();
      queue_.pop();
      Pair& pair = pairs_[top.pair];
      if (pair.count != top.count) {
        if (enough(pair.count)) queue_.push({pair.count, pair.left, pair.right, top.pair});
        continue;
      }
      merges.emplace_back(pair.left, pair.right);
      const auto places = std::move(pair.places);
      join(pair.left, pair.right, {places.get(), pair.places_size});
      if (progress && merges.size() % 512 == 0) progress(static_cast<std::int64_t>(merges.size()));
    }
    return merges;
  }

 private:
  struct Entry {
    std::int64_t count;  // as it was when the entry was made
    std::uint32_t left, right, pair;
    bool operator<(const Entry& other) const {
      if (count != other.count) return count < other.count;
      return std::pair(left, right) > std::pair(other.left, other.right);
    }
  };

  bool enough(std::int64_t count) const { return count >= std::max<std::int64_t>(config_.min_frequency, 1); }

  // A new pair that occurs `count` times; where its `size` places go, or nothing for a pair that is never joined.
  std::uint32_t* meet(std::uint32_t left, std::uint32_t right, std::int64_t count, std::uint32_t size) {
    if (!enough(count)) return nullptr;
    if (config_.max_token_chars > 0 && chars_[left] + chars_[right] > config_.max_token_chars) return nullptr;
    pairs_.push_back({left, right, count, std::make_unique_for_overwrite<std::uint32_t[]>(size), size});
    table_.add_last();
    queue_.push({count, left, right, static_cast<std::uint32_t>(pairs_.size() - 1)});
    return pairs_.back().places.get();
  }

  void lose(std::uint32_t left, std::uint32_t right, std::int64_t count) {
    const std::uint32_t number = table_.find(left, right);
    if (number != PairTable::none) pairs_[number].count -= count;
  }

  void meet_bytes() {
    struct Seen {
      std::int64_t count = 0;
      std::uint32_t places = 0;
      std::uint32_t* out = nullptr;
    };
    std::vector<Seen> seen(256 * 256);
    const auto each = [&](auto&& f) {
      for (std::uint32_t place = 1; place + 1 < text_.size(); ++place) {
        if (text_[place] != gap && text_[place + 1] != gap) f(seen[text_[place] * 256 + text_[place + 1]], place);
      }
    };
    each([&](Seen& pair, std::uint32_t place) {
      pair.count += text_.count(place);
      ++pair.places;
    });
    for (std::uint32_t i = 0; i < seen.size(); ++i) seen[i].out = meet(i / 256, i % 256, seen[i].count, seen[i].places);
    each([](Seen& pair, std::uint32_t place) {
      if (pair.out) *pair.out++ = place;
    });
  }

  void join(std::uint32_t left, std::uint32_t right, std::span<const std::uint32_t> places) {
    const auto made = static_cast<std::uint32_t>(length_.size());
    const std::uint32_t left_length = length_[left], right_length = length_[right];
    length_.push_back(left_length + right_length);
    chars_.push_back(chars_[left] + chars_[right]);
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (i + ahead < places.size()) text_.prefetch(places[i + ahead]);
      const std::uint32_t begin = places[i], middle = begin + left_length, end = middle + right_length;
      if (text_[begin] != left || text_[middle] != right) continue;
      const std::int64_t count = text_.count(begin);
      const std::uint32_t before = text_[begin - 1], behind = text_[end];
      if (before != gap) before_.add(before, count, begin - length_[before]);
      if (behind != gap) behind_.add(behind, count, begin);
      text_[middle - 1] = text_[middle] = dead;
      text_[begin] = text_[end - 1] = made;
    }
    // In a run such as (left right)(left right) the second meets the first as its token, which had counted `left`.
    const std::int64_t twins = before_.count(made);
    for (const std::uint32_t other : before_.met()) {
      if (other != made) lose(other, left, before_.count(other));
      before_.collect(other, meet(other, made, before_.count(other), before_.places(other)));
    }
    for (const std::uint32_t other : behind_.met()) {
      lose(right, other, behind_.count(other));
      const std::int64_t count = behind_.count(other) - (other == left ? twins : 0);
      behind_.collect(other, meet(made, other, count, behind_.places(other)));
    }
    before_.finish();
    behind_.finish();
  }

  LearnMergesConfig config_;
  Text text_;
  std::vector<std::uint32_t> length_;  // of each token, in bytes
  std::vector<std::int64_t> chars_;    // that begin in each token
  std::vector<Pair> pairs_;
  PairTable table_;
  std::priority_queue<Entry> queue_;
  Neighbours before_, behind_;
};

}  // namespace

const std::array<unsigned char, 256>& bytes_in_order() {
  static const auto order = [] {
    const auto printable = [](int byte) { return (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD); };
    std::array<unsigned char, 256> bytes{};
    std::size_t at = 0;
    for (const bool first : {true, false}) {
      for (int byte = 0; byte < 256; ++byte) {
        if (printable(byte) == first) bytes[at++] = static_cast<unsigned char>(byte);
      }
    }
    return bytes;
  }();
  return order;
}

std::vector<std::pair<std::int32_t, std::int32_t>> learn_merges(const LearnMergesConfig& config,
                                                                std::vector<PieceCount> pieces,
                                                                const std::function<void(std::int64_t)>& progress) {
  return Learner(config, std::move(pieces)).learn(progress);
}

BpeModel make_bpe_model(const std::vector<std::pair<std::int32_t, std::int32_t>>& merges,
                        PretokenizerKind pretokenizer) {
  BpeModel model;
  for (const unsigned char byte : bytes_in_order()) model.tokens.emplace_back(1, static_cast<char>(byte));
  for (const auto& [left, right] : merges) {
    const auto token = [&](std::int32_t id) -> const std::string& {
      return model.tokens[static_cast<std::size_t>(id)];
    };
    model.tokens.push_back(token(left) + token(right));
  }
  model.merges = merges;
  model.pretokenizer = pretokenizer;
  model.eos = static_cast<std::int32_t>(model.tokens.size());
  model.added.push_back({.id = model.eos, .content = "<｜end▁of▁sentence｜>"});
  return model;
}

}  // namespace dujiang::data
