#pragma once
// How good a document is: a linear model over hashed n-grams of characters.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus/filter/profile.h"
#include "data/corpus/step.h"

namespace dujiang::data {

struct QualityConfig {
  int max_gram = 4;                 // n-grams of 1 to this many characters, at most 4
  int bits = 18;                    // 2^bits weights, 10 to 24
  std::uint32_t max_bytes = 16384;  // only a document's beginning is read
  int epochs = 5;
  double rate = 1;  // AdaGrad's
  std::uint64_t seed = 1;
};

class QualityModel {
 public:
  /// UserError naming the file when it can't be read or isn't a whole model of this version.
  static QualityModel load(const std::filesystem::path& path);
  void save(const std::filesystem::path& path) const;
  /// The probability, in a mix of equal parts, that the document is one of the good.
  float score(std::string_view text) const;

 private:
  friend class QualityTrainer;
  struct Header {
    char magic[8];
    std::uint32_t version, max_gram, bits, max_bytes;
    std::uint64_t weights_hash;  // XXH3
    float bias;
    std::uint32_t unused;
  };
  explicit QualityModel(const QualityConfig& config);
  /// The places of the weights of a text's n-grams; replaces `places`.
  void read(std::string_view text, std::vector<std::uint32_t>& places) const;
  double logit(std::span<const std::uint32_t> places) const;

  int max_gram_, bits_;
  std::uint32_t max_bytes_;
  float bias_ = 0;
  std::vector<float> weights_;
};

struct QualityReport {
  std::int64_t good = 0, bad = 0;            // documents learnt from
  std::int64_t held_good = 0, held_bad = 0;  // held back: a tenth, by hash of the text
  double auc = 0;                            // over those held back
  double good_kept = 0, bad_kept = 0;        // shares of those that score 0.5 and more
};

/// Learns to tell `good` from `bad`. The same model for the same texts in any order, on any number of threads.
/// UserError when one side has too few to hold some back.
QualityModel train_quality(std::span<const std::string> good, std::span<const std::string> bad,
                           const QualityConfig& config, QualityReport& report);

/// The area under the curve: how often a value of `good` is above one of `bad`, ties half.
double area_under_curve(std::vector<float> good, std::vector<float> bad);

/// Scores documents into TextDocument::quality; rule low_quality by each source's min_quality.
class QualityFilter : public Step {
 public:
  QualityFilter(std::shared_ptr<const QualityModel> model, std::span<const FilterProfile> profiles);
  std::string_view name() const override { return "quality"; }
  std::optional<Rejection> apply(TextDocument& document, Tally& tally) const override;

 private:
  std::shared_ptr<const QualityModel> model_;
  std::vector<double> min_quality_;
};

}  // namespace dujiang::data
