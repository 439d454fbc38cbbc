#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "data/corpus/filter/quality.h"
#include "framework/base/check.h"

namespace dujiang::data {

double area_under_curve(std::vector<float> good, std::vector<float> bad) {
  std::sort(good.begin(), good.end());
  std::sort(bad.begin(), bad.end());
  double pairs = 0;
  for (const float value : good) {
    const auto [below, not_above] = std::equal_range(bad.begin(), bad.end(), value);
    pairs += static_cast<double>(below - bad.begin()) + 0.5 * static_cast<double>(not_above - below);
  }
  return pairs / (static_cast<double>(good.size()) * static_cast<double>(bad.size()));
}

/// Logistic regression by AdaGrad, one document after the other.
class QualityTrainer {
 public:
  explicit QualityTrainer(const QualityConfig& config)
      : config_(config), model_(config), squares_(model_.weights_.size()) {}

  /// `weight`: how much the document counts.
  void learn(std::string_view text, bool good, double weight) {
    model_.read(text, places_);
    if (places_.empty()) return;
    const double p = 1 / (1 + std::exp(-model_.logit(places_)));
    const double error = weight * (p - (good ? 1 : 0));
    const auto gradient = static_cast<float>(error / static_cast<double>(places_.size()));
    const auto rate = static_cast<float>(config_.rate);
    for (const std::uint32_t place : places_) {
      squares_[place] += gradient * gradient;
      // Squares start at 0: the first step is of the rate's size, whatever the gradient.
      if (squares_[place] > 0) model_.weights_[place] -= rate * gradient / std::sqrt(squares_[place]);
    }
    bias_squares_ += error * error;
    if (bias_squares_ > 0) model_.bias_ -= static_cast<float>(0.1 * config_.rate * error / std::sqrt(bias_squares_));
  }

  QualityModel take() { return std::move(model_); }

 private:
  QualityConfig config_;
  QualityModel model_;
  std::vector<float> squares_;
  double bias_squares_ = 0;
  std::vector<std::uint32_t> places_;
};

QualityModel train_quality(std::span<const std::string> good, std::span<const std::string> bad,
                           const QualityConfig& config, QualityReport& report) {
  if (config.epochs < 1) fail_user("quality: epochs must be at least 1, found {}", config.epochs);
  if (!(config.rate > 0)) fail_user("quality: rate must be above 0, found {}", config.rate);
  struct Sample {
    std::uint64_t order;
    std::string_view text;
    bool good;
    bool operator<(const Sample& b) const { return std::tie(order, text, good) < std::tie(b.order, b.text, b.good); }
  };
  std::vector<Sample> learnt;
  std::vector<std::string_view> held[2];
  for (const bool is_good : {false, true}) {
    for (const auto& text : is_good ? good : bad) {
      const std::uint64_t hash = XXH3_64bits_withSeed(text.data(), text.size(), config.seed);
      if (hash % 10 == 0) {
        held[is_good].push_back(text);
      } else {
        learnt.push_back({hash, text, is_good});
      }
    }
  }
  std::sort(learnt.begin(), learnt.end());
  report = {};
  report.good = std::count_if(learnt.begin(), learnt.end(), [](const Sample& s) { return s.good; });
  report.bad = std::ssize(learnt) - report.good;
  report.held_good = std::ssize(held[1]);
  report.held_bad = std::ssize(held[0]);
  if (std::min({report.good, report.bad, report.held_good, report.held_bad}) == 0) {
    fail_user(
        "quality: {} good and {} bad documents are too few to learn from and to hold a tenth back: give some "
        "hundreds of each",
        good.size(), bad.size());
  }
  // Both sides count the same, however many documents they have.
  const double all = static_cast<double>(learnt.size());
  const double weight[2] = {all / (2 * static_cast<double>(report.bad)), all / (2 * static_cast<double>(report.good))};
  QualityTrainer trainer(config);
  for (int epoch = 0; epoch < config.epochs; ++epoch) {
    for (const Sample& sample : learnt) trainer.learn(sample.text, sample.good, weight[sample.good]);
  }
  QualityModel model = trainer.take();
  std::vector<float> scores[2];
  for (const bool is_good : {false, true}) {
    for (const auto& text : held[is_good]) scores[is_good].push_back(model.score(text));
  }
  const auto kept = [](const std::vector<float>& values) {
    const auto count = std::count_if(values.begin(), values.end(), [](float value) { return value >= 0.5f; });
    return static_cast<double>(count) / static_cast<double>(values.size());
  };
  report.good_kept = kept(scores[1]);
  report.bad_kept = kept(scores[0]);
  report.auc = area_under_curve(std::move(scores[1]), std::move(scores[0]));
  return model;
}

}  // namespace dujiang::data
