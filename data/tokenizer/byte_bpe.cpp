#include "data/tokenizer/byte_bpe.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "data/text/sha256.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

const icu::Normalizer2& nfc() {
  UErrorCode status = U_ZERO_ERROR;
  const auto* instance = icu::Normalizer2::getNFCInstance(status);
  DUJIANG_CHECK(U_SUCCESS(status), "tokenizer: ICU has no NFC: {}", u_errorName(status));
  return *instance;
}

icu::StringPiece piece_of(std::string_view text) {
  DUJIANG_CHECK(text.size() <= INT32_MAX, "tokenizer: a text of {} bytes is too long to normalise", text.size());
  return {text.data(), static_cast<std::int32_t>(text.size())};
}

bool is_nfc(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  return nfc().isNormalizedUTF8(piece_of(text), status) && U_SUCCESS(status);
}

// Hugging Face's tables for this are of Unicode 9: what came later stays as and where it is. Text that is in NFC by
// newer ones is so by these.
std::string to_nfc(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  static const icu::UnicodeSet known = [] {
    UErrorCode fault = U_ZERO_ERROR;
    icu::UnicodeSet set(UNICODE_STRING_SIMPLE("[:age=9.0:]"), fault);
    DUJIANG_CHECK(U_SUCCESS(fault), "tokenizer: ICU has no ages of characters: {}", u_errorName(fault));
    set.freeze();
    return set;
  }();
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  icu::FilteredNormalizer2(nfc(), known).normalizeUTF8(0, piece_of(text), sink, nullptr, status);
  DUJIANG_CHECK(U_SUCCESS(status), "tokenizer: ICU fails to normalise: {}", u_errorName(status));
  return out;
}

// The text of a special token must not be one that pieces can become.
BpeModel without_special(BpeModel model) {
  for (const AddedToken& token : model.added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (token.special && id < model.tokens.size()) model.tokens[id].clear();
  }
  return model;
}

// Those that are looked for in the raw text, or in the normalised one, where they stand normalised themselves.
std::vector<AddedToken> tokens_of(const BpeModel& model, bool normalized) {
  std::vector<AddedToken> out;
  for (const AddedToken& token : model.added) {
    if (token.normalized != normalized) continue;
    out.push_back(token);
    if (normalized && model.nfc) out.back().content = to_nfc(token.content);
  }
  return out;
}

// The ids of short pieces seen before: each has one place, where the last one stays.
class PieceCache {
 public:
  static constexpr std::size_t longest = 16;

  struct Entry {
    std::uint64_t low = 0, high = 0;  // the bytes
    std::uint16_t size = 0;           // 0: no piece yet
    std::uint16_t count = 0;
    static constexpr std::size_t most = 11;
    std::int32_t ids[most];
  };

  /// The place of a piece; it holds the piece when its size is set, else only the key.
  Entry& find(std::string_view piece) {
    const char* const data = piece.data();
    const std::size_t size = piece.size();
    std::uint64_t low = 0, high = 0;
    if (size >= 8) {
      std::memcpy(&low, data, 8);
      std::memcpy(&high, data + size - 8, 8);
    } else if (size >= 4) {
      std::memcpy(&low, data, 4);
      std::memcpy(&high, data + size - 4, 4);
    } else {
      low = static_cast<unsigned char>(data[0]);
      high =
          std::uint64_t{static_cast<unsigned char>(data[size / 2])} << 8 | static_cast<unsigned char>(data[size - 1]);
    }
    const std::uint64_t hash = (low * 0x9E3779B97F4A7C15 ^ (high + size) * 0xC2B2AE3D27D4EB4F) * 0x9FB21C651E98DF25;
    Entry& entry = entries_[hash >> (64 - bits)];
    if (entry.low != low || entry.high != high || entry.size != size) {
      entry.low = low;
      entry.high = high;
      entry.size = 0;
    }
    return entry;
  }

 private:
  static constexpr int bits = 14;  // 1 MiB
  std::vector<Entry> entries_{std::size_t{1} << bits};
};

}  // namespace

struct ByteBpeTokenizer::Scratch {
  BpeMerger::Buffers buffers;
  PieceCache cache;
  std::vector<std::int32_t> ids;  // of the text so far in the first `count` places
  std::size_t count = 0;

  std::int32_t* room_for(std::size_t more) {
    if (ids.size() < count + more) ids.resize(count + more);
    return ids.data() + count;
  }
  void add(std::int32_t id) {
    *room_for(1) = id;
    ++count;
  }
};

ByteBpeTokenizer::ByteBpeTokenizer(BpeModel model, std::string sha256, std::vector<std::string> notes)
    : model_(without_special(std::move(model))),
      sha256_(std::move(sha256)),
      notes_(std::move(notes)),
      pretokenizer_(model_.pretokenizer),
      merger_(model_),
      raw_(tokens_of(model_, false)),
      normalized_(tokens_of(model_, true)) {
  bytes_ = model_.tokens;
  for (const AddedToken& token : model_.added) {
    DUJIANG_CHECK(token.id >= 0 && !token.content.empty(), "added token {}: \"{}\"", token.id, token.content);
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= bytes_.size()) bytes_.resize(id + 1);
    bytes_[id] = token.special ? "" : token.normalized && model_.nfc ? to_nfc(token.content) : token.content;
  }
  if (model_.ignore_merges) {
    whole_.reserve(model_.tokens.size());
    for (std::size_t id = 0; id < model_.tokens.size(); ++id) {
      if (!model_.tokens[id].empty()) whole_.emplace(model_.tokens[id], static_cast<std::int32_t>(id));
    }
  }
  if (model_.nfc) {
    notes_.emplace_back("the tokenizer normalises text to NFC: characters such as U+F900 come back as others (U+8C48)");
  }
}

ByteBpeTokenizer::~ByteBpeTokenizer() = default;

std::int32_t ByteBpeTokenizer::vocab_size() const {
  return static_cast<std::int32_t>(bytes_.size());
}

std::string_view ByteBpeTokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || id >= vocab_size()) fail_user("tokenizer: id {} is outside the vocabulary of {}", id, vocab_size());
  return bytes_[static_cast<std::size_t>(id)];
}

std::vector<std::int32_t> ByteBpeTokenizer::encode(std::string_view text) const {
  return encode(text, Specials::as_text);
}

std::vector<std::int32_t> ByteBpeTokenizer::encode(std::string_view text, Specials specials) const {
  const std::size_t valid = utf8_valid_prefix(text);
  if (valid != text.size()) fail_user("tokenizer: the text isn't UTF-8 at byte offset {}", valid);
  auto scratch = take_scratch();
  scratch->count = 0;
  raw_.split(text, specials == Specials::match, [&](std::string_view part, std::int32_t id) {
    if (id >= 0) {
      scratch->add(id);
    } else {
      encode_part(part, specials, *scratch);
    }
  });
  std::vector<std::int32_t> ids(scratch->ids.begin(),
                                scratch->ids.begin() + static_cast<std::ptrdiff_t>(scratch->count));
  constexpr std::size_t keep = std::size_t{1} << 20;  // what a giant text took is not kept
  if (scratch->ids.size() > keep) scratch->ids = {};
  if (scratch->buffers.ranks.size() > keep) scratch->buffers = {};
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(scratch));
  return ids;
}

std::unique_ptr<ByteBpeTokenizer::Scratch> ByteBpeTokenizer::take_scratch() const {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Scratch>();
  auto scratch = std::move(idle_.back());
  idle_.pop_back();
  return scratch;
}

void ByteBpeTokenizer::encode_part(std::string_view text, Specials specials, Scratch& scratch) const {
  std::string other;
  if (model_.nfc && !is_nfc(text)) text = other = to_nfc(text);
  normalized_.split(text, specials == Specials::match, [&](std::string_view part, std::int32_t id) {
    if (id >= 0) {
      scratch.add(id);
    } else {
      encode_text(part, scratch);
    }
  });
}

void ByteBpeTokenizer::encode_text(std::string_view text, Scratch& scratch) const {
  std::int32_t* out = scratch.room_for(text.size() + PieceCache::Entry::most);
  const auto merge = [&](std::string_view piece) {
    if (model_.ignore_merges) {
      if (const auto found = whole_.find(piece); found != whole_.end()) {
        *out++ = found->second;
        return;
      }
    }
    out = merger_.merge(piece, out, scratch.buffers);
  };
  pretokenizer_.for_each_piece(text, [&](std::string_view piece) {
    if (piece.size() > PieceCache::longest) {
      merge(piece);
      return;
    }
    PieceCache::Entry& entry = scratch.cache.find(piece);
    if (entry.size == 0) {
      const std::int32_t* const begin = out;
      merge(piece);
      const auto count = static_cast<std::size_t>(out - begin);
      if (count > PieceCache::Entry::most) return;
      std::copy(begin, static_cast<const std::int32_t*>(out), entry.ids);
      entry.count = static_cast<std::uint16_t>(count);
      entry.size = static_cast<std::uint16_t>(piece.size());
    } else {
      std::memcpy(out, entry.ids, sizeof entry.ids);  // all places: quicker than as many as there are
      out += entry.count;
    }
  });
  scratch.count = static_cast<std::size_t>(out - scratch.ids.data());
}

std::unique_ptr<ByteBpeTokenizer> load_byte_bpe(const std::string& dir) {
  std::vector<std::string> notes;
  BpeModel model = read_tokenizer_json(dir, notes);
  Sha256 hash;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    const auto path = std::filesystem::path(dir) / name;
    if (std::filesystem::exists(path)) hash.update(sha256_file(path.string()));
  }
  return std::make_unique<ByteBpeTokenizer>(std::move(model), hash.hex(), std::move(notes));
}

}  // namespace dujiang::data
