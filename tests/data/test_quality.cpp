#include "data/corpus/filter/quality.h"

#include <algorithm>
#include <fstream>

#include "framework/base/threads.h"
#include "tests/data/filter_cases.h"
#include "tests/support/messages.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::data;
using namespace dujiang::test;

namespace {

// Documents of the same characters, equally often: the good say them in an order, the bad in almost any.
std::vector<std::string> documents(Random& random, int count, bool ordered) {
  std::vector<std::string> out;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (int k = 0; k < 30; ++k) {
      const int start = draw(random, 50);
      for (int c = 0; c < 6; ++c) text += han(1, (ordered ? start : draw(random, 50)) + c);
    }
    out.push_back(text);
  }
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_area_under_the_curve_is_the_share_of_pairs_in_order) {
  BOOST_TEST(area_under_curve({3, 4}, {1, 2}) == 1);
  BOOST_TEST(area_under_curve({1, 2}, {3, 4}) == 0);
  BOOST_TEST(area_under_curve({1, 3}, {2, 2}) == 0.5);
  BOOST_TEST(area_under_curve({1, 1}, {1}) == 0.5);
  Random random(10);
  std::vector<float> good, bad;
  for (int i = 0; i < 200; ++i) good.push_back(static_cast<float>(draw(random, 50)));
  for (int i = 0; i < 300; ++i) bad.push_back(static_cast<float>(draw(random, 45)));
  double pairs = 0;
  for (const float a : good) {
    for (const float b : bad) pairs += a > b ? 1 : a == b ? 0.5 : 0;
  }
  BOOST_TEST(area_under_curve(good, bad) == pairs / (200 * 300));
}

BOOST_AUTO_TEST_CASE(order_alone_tells_good_from_bad) {
  Random random(11);
  const auto good = documents(random, 400, true), bad = documents(random, 200, false);
  QualityReport report;
  const QualityModel model = train_quality(good, bad, {.bits = 16}, report);
  BOOST_TEST(report.good + report.held_good == 400);
  BOOST_TEST(report.bad + report.held_bad == 200);
  BOOST_TEST(report.held_good > 20);
  BOOST_TEST(report.held_good < 60);
  BOOST_TEST(report.auc > 0.999);  // they share no n-grams but by chance
  BOOST_TEST(report.good_kept > 0.95);
  BOOST_TEST(report.bad_kept < 0.05);
  // New ones.
  std::vector<float> scores[2];
  for (const bool ordered : {false, true}) {
    for (const auto& text : documents(random, 100, ordered)) scores[ordered].push_back(model.score(text));
  }
  BOOST_TEST(area_under_curve(scores[1], scores[0]) > 0.999);
  // Single characters are the same on both sides: the model must not pretend.
  QualityReport singles;
  train_quality(good, bad, {.max_gram = 1, .bits = 16}, singles);
  BOOST_TEST(singles.auc < 0.75);  // 0.5 expected, five standard deviations above
}

BOOST_AUTO_TEST_CASE(what_cannot_be_told_apart_scores_a_half) {
  Random random(12);
  QualityReport report;
  train_quality(documents(random, 600, false), documents(random, 600, false), {.bits = 16}, report);
  // Of about 60 x 60 pairs; five standard deviations of 0.053 each.
  BOOST_TEST(std::abs(report.auc - 0.5) < 0.26);
}

BOOST_AUTO_TEST_CASE(the_same_texts_give_the_same_file_in_any_order_on_any_threads) {
  const TempFolder folder;
  Random random(13);
  auto good = documents(random, 60, true), bad = documents(random, 60, false);
  const auto bytes = [&](int threads) {
    set_thread_count(threads);
    QualityReport report;
    train_quality(good, bad, {.bits = 12, .epochs = 2}, report).save(folder / "model");
    std::ifstream file(folder / "model", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string first = bytes(1);
  std::reverse(good.begin(), good.end());
  std::shuffle(bad.begin(), bad.end(), random);
  BOOST_TEST((bytes(3) == first));
  good.pop_back();
  BOOST_TEST((bytes(1) != first));
}

BOOST_AUTO_TEST_CASE(a_model_is_read_as_it_was_written_and_damage_is_named) {
  const TempFolder folder;
  Random random(14);
  const auto good = documents(random, 60, true), bad = documents(random, 60, false);
  QualityReport report;
  const QualityModel model = train_quality(good, bad, {.max_gram = 3, .bits = 12}, report);
  const std::string path = folder / "model";
  model.save(path);
  const QualityModel again = QualityModel::load(path);
  for (const auto& text : good) BOOST_TEST(again.score(text) == model.score(text));
  train_quality(good, bad, {.max_gram = 4, .bits = 10}, report).save(folder / "longest");
  QualityModel::load(folder / "longest");
  std::ifstream file(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  const auto refused = [&](std::string changed) {
    const std::string other = folder.write("other", changed);
    return message_of([&] { QualityModel::load(other); });
  };
  BOOST_TEST(contains(refused("text"), "not a quality model"));
  BOOST_TEST(contains(refused(bytes.substr(0, bytes.size() - 1)), "damaged or cut short"));
  BOOST_TEST(contains(refused(bytes + "x"), "damaged or cut short"));
  std::string flipped = bytes;
  flipped[bytes.size() / 2] ^= 1;
  BOOST_TEST(contains(refused(flipped), "damaged"));
  flipped = bytes;
  flipped[8] = 2;
  BOOST_TEST(contains(refused(flipped), "of version 2, expected 1"));
  BOOST_TEST(contains(message_of([&] { QualityModel::load(folder / "none"); }), "can't be read"));
}

BOOST_AUTO_TEST_CASE(documents_are_scored_and_go_below_their_sources_limit) {
  Random random(15);
  QualityReport report;
  const auto model = std::make_shared<QualityModel>(
      train_quality(documents(random, 200, true), documents(random, 200, false), {.bits = 16}, report));
  std::vector<FilterProfile> profiles(2);
  profiles[1].min_quality = 0.5;
  const QualityFilter filter(model, profiles);
  for (const bool ordered : {false, true}) {
    TextDocument document;
    Tally tally;
    document.text = documents(random, 1, ordered)[0];
    BOOST_TEST(!filter.apply(document, tally));
    BOOST_TEST(document.quality == model->score(document.text));
    document.source = 1;
    const auto why = filter.apply(document, tally);
    BOOST_TEST(why.has_value() == !ordered);
    if (why) BOOST_TEST(why->rule == "low_quality");
  }
}

BOOST_AUTO_TEST_CASE(only_the_beginning_counts_and_writing_not_figures) {
  Random random(16);
  QualityReport report;
  const auto good = documents(random, 100, true);
  const QualityModel model = train_quality(good, documents(random, 100, false), {.bits = 14, .max_bytes = 300}, report);
  BOOST_TEST(model.score(good[0]) == model.score(good[0].substr(0, 300)));
  BOOST_TEST(model.score(good[0].substr(0, 200 * 3 / 2)) == model.score(good[0].substr(0, 300) + "尾"));
  BOOST_TEST(model.score("第12章 ABC") == model.score("第98章\t\n abc"));
  BOOST_TEST(model.score("") > 0);
}

BOOST_AUTO_TEST_CASE(too_few_samples_and_wrong_settings_are_named) {
  QualityReport report;
  const std::vector<std::string> one{"甲"};
  const auto refused = [&](QualityConfig config) {
    return message_of([&] { train_quality(one, one, config, report); });
  };
  BOOST_TEST(contains(refused({}), "1 good and 1 bad documents are too few"));
  Random random(17);
  const auto some = documents(random, 50, true);
  const auto wrong = [&](QualityConfig config) {
    return message_of([&] { train_quality(some, some, config, report); });
  };
  BOOST_TEST(contains(wrong({.max_gram = 5}), "max_gram must lie in [1, 4], found 5"));
  BOOST_TEST(contains(wrong({.bits = 30}), "bits must lie in [10, 24], found 30"));
  BOOST_TEST(contains(wrong({.epochs = 0}), "epochs"));
  BOOST_TEST(contains(wrong({.rate = 0}), "rate"));
}
