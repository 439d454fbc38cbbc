#include "data/corpus/filter/quality.h"

#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include "data/text/char_class.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {
namespace {

constexpr char magic[8] = {'d', 'j', 'q', 'u', 'a', 'l', 'i', 't'};
constexpr std::uint32_t version = 1;

std::string_view bytes_of(const std::vector<float>& weights) {
  return {reinterpret_cast<const char*>(weights.data()), weights.size() * sizeof(float)};
}

}  // namespace

QualityModel::QualityModel(const QualityConfig& config)
    : max_gram_(config.max_gram), bits_(config.bits), max_bytes_(config.max_bytes) {
  if (max_gram_ < 1 || max_gram_ > 4) fail_user("quality: max_gram must lie in [1, 4], found {}", max_gram_);
  if (bits_ < 10 || bits_ > 24) fail_user("quality: bits must lie in [10, 24], found {}", bits_);
  if (max_bytes_ < 64) fail_user("quality: max_bytes must be at least 64, found {}", max_bytes_);
  weights_.resize(std::size_t{1} << bits_);
}

// Digits are one digit, letters of ASCII small, white space one space: what is told apart is how a text is written.
void QualityModel::read(std::string_view text, std::vector<std::uint32_t>& places) const {
  places.clear();
  if (text.size() > max_bytes_) {
    std::size_t end = max_bytes_;
    while ((text[end] & 0xC0) == 0x80) --end;
    text = text.substr(0, end);
  }
  const auto& classes = CharClasses::get();
  constexpr std::array<std::uint64_t, 4> factors{0x9E3779B97F4A7C15ull, 0xD6E8FEB86659FD93ull, 0xA0761D6478BD642Full,
                                                 0xE7037ED1A0B428DBull};
  const int shift = 64 - bits_;
  std::uint64_t last[3] = {};  // the characters before, latest first
  int known = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    std::uint64_t c = next_char(text, pos);
    if (classes[static_cast<char32_t>(c)] & CharClass::space) {
      if (last[0] == ' ') continue;
      c = ' ';
    } else if (c >= '0' && c <= '9') {
      c = '0';
    } else if (c >= 'A' && c <= 'Z') {
      c += 32;
    }
    std::uint64_t key = c * factors[0];
    const int grams = std::min(max_gram_, known + 1);
    for (int n = 0;;) {
      const std::uint64_t mixed = (key ^ key >> 29) * factors[3];
      places.push_back(static_cast<std::uint32_t>(mixed >> shift));
      if (++n == grams) break;
      key = (key ^ last[n - 1]) * factors[static_cast<std::size_t>(n)] + static_cast<std::uint64_t>(n);
    }
    last[2] = last[1];
    last[1] = last[0];
    last[0] = c;
    known = std::min(known + 1, 3);
  }
}

double QualityModel::logit(std::span<const std::uint32_t> places) const {
  if (places.empty()) return bias_;
  double sum = 0;
  for (const std::uint32_t place : places) sum += weights_[place];
  return bias_ + sum / static_cast<double>(places.size());
}

float QualityModel::score(std::string_view text) const {
  thread_local std::vector<std::uint32_t> places;
  read(text, places);
  return static_cast<float>(1 / (1 + std::exp(-logit(places))));
}

void QualityModel::save(const std::filesystem::path& path) const {
  const std::string_view weights = bytes_of(weights_);
  Header header{{},
                version,
                static_cast<std::uint32_t>(max_gram_),
                static_cast<std::uint32_t>(bits_),
                max_bytes_,
                XXH3_64bits(weights.data(), weights.size()),
                bias_,
                0};
  std::memcpy(header.magic, magic, sizeof magic);
  DurableFile file(path);
  file.write(&header, sizeof header);
  file.write(weights);
  file.commit();
}

QualityModel QualityModel::load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_user("{}: can't be read: {}", path.string(), std::strerror(errno));
  Header header{};
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header) ||
      std::memcmp(header.magic, magic, sizeof magic) != 0) {
    fail_user("{}: not a quality model: make one by `dujiang data quality train`", path.string());
  }
  if (header.version != version || header.max_gram < 1 || header.max_gram > 4 || header.bits < 10 || header.bits > 24) {
    fail_user("{}: a quality model of version {}, expected {}: train it anew", path.string(), header.version, version);
  }
  QualityModel model({.max_gram = static_cast<int>(header.max_gram),
                      .bits = static_cast<int>(header.bits),
                      .max_bytes = header.max_bytes});
  model.bias_ = header.bias;
  const std::string_view weights = bytes_of(model.weights_);
  const bool whole = file.read(reinterpret_cast<char*>(model.weights_.data()), std::ssize(weights)) &&
                     file.peek() == std::ifstream::traits_type::eof() &&
                     XXH3_64bits(weights.data(), weights.size()) == header.weights_hash;
  if (!whole) fail_user("{}: the quality model is damaged or cut short: train it anew", path.string());
  return model;
}

QualityFilter::QualityFilter(std::shared_ptr<const QualityModel> model, std::span<const FilterProfile> profiles)
    : model_(std::move(model)) {
  for (const auto& profile : profiles) min_quality_.push_back(profile.min_quality);
}

std::optional<Rejection> QualityFilter::apply(TextDocument& document, Tally&) const {
  document.quality = model_->score(document.text);
  const double limit = min_quality_.at(document.source);
  if (static_cast<double>(document.quality) < limit) {
    return Rejection{"low_quality", static_cast<double>(document.quality), limit};
  }
  return std::nullopt;
}

}  // namespace dujiang::data
