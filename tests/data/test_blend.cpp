// Blending by weight: who gives sequence k, epochs of each, growth of a dataset, columns beside the tokens, tracing.

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "data/loader/loader.h"
#include "tests/data/shard_fixture.h"

using namespace dujiang;
using namespace dujiang::data;

namespace {

/// Up to `longest` weights, some 0, some thousands of times others.
std::vector<double> random_weights(std::uint64_t seed, std::size_t count) {
  const Philox random(seed, 7);
  std::vector<double> weights(count);
  for (std::size_t c = 0; c < count; ++c)
    weights[c] = random.below(2 * c, 5) == 0 ? 0.0 : std::exp(10.0 * random.uniform(2 * c + 1));
  if (*std::ranges::max_element(weights) == 0) weights[0] = 1;
  return weights;
}

/// Documents whose tokens tell which they are: first + 100 * document + place, place below 100.
std::shared_ptr<const Dataset> numbered(const std::filesystem::path& folder, int first, int documents) {
  Documents texts;
  for (int d = 0; d < documents; ++d) {
    auto& text = texts.emplace_back();
    for (int i = 0; i < 5 + d * 7 % 41; ++i) text.push_back(first + 100 * d + i);
  }
  DatasetWriter writer(folder, some_info(100000), 200);
  for (std::size_t d = 0; d < texts.size(); ++d)
    writer.add("train", {.tokens = texts[d], .source = static_cast<std::uint32_t>(d % 3 == 0)});
  writer.finish();
  return std::make_shared<Dataset>(folder, "train");
}

void grow(const std::filesystem::path& folder, int first, int documents) {
  auto writer = DatasetWriter::append(folder, some_info(100000), 200);
  for (int d = 0; d < documents; ++d) {
    std::vector<std::int32_t> text(30);
    for (int i = 0; i < 30; ++i) text[static_cast<std::size_t>(i)] = first + 100 * d + i;
    writer.add("train", {.tokens = text});
  }
  writer.finish();
}

struct Two {
  TempFolder a, b;
  std::vector<Component> components{{numbered(a.path(), 1, 60), ""}, {numbered(b.path(), 50001, 25), ""}};
  LoaderConfig config{.sequence_length = 16,
                      .global_batch = 6,
                      .seed = 3,
                      .count = 6,
                      .blend = {{0, {3, 1}}, {40, {1, 2}}, {41, {0, 1}}, {60, {1, 1}}}};
};

bool equal(const Batch& a, const Batch& b) {
  return a.tokens == b.tokens && a.labels == b.labels && a.loss_weight == b.loss_weight && a.segments == b.segments &&
         a.weight_sum == b.weight_sum;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_component_gives_its_share_of_any_first_k_within_two) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const std::size_t count = 1 + seed % 23;
    const auto weights = random_weights(seed, count);
    const Blend blend({{0, weights}}, count);
    double sum = 0;
    for (const double weight : weights) sum += weight;
    std::vector<std::int64_t> given(count);
    double worst = 0;
    for (std::int64_t k = 0; k < 3000; ++k) {
      const auto pick = blend.at(k);
      BOOST_REQUIRE(pick.index == given[pick.component]);  // none is left out, none comes twice
      BOOST_REQUIRE(weights[pick.component] > 0);
      ++given[pick.component];
      for (std::size_t c = 0; c < count; ++c) {
        worst =
            std::max(worst, std::abs(static_cast<double>(given[c]) - weights[c] / sum * static_cast<double>(k + 1)));
        if (k % 97 == 0) BOOST_REQUIRE(blend.count(c, k + 1) == given[c]);
      }
    }
    // The bound that blend.h proves; weights are kept to 2^-32 of a node's, which 3000 sequences don't show.
    BOOST_TEST(worst <= 2.0, "seed " << seed << ": " << worst);
    // Far out, where a floating-point product would be off by sequences.
    const std::int64_t far = (std::int64_t{1} << 52) + static_cast<std::int64_t>(seed);
    std::int64_t total = 0;
    for (std::size_t c = 0; c < count; ++c) total += blend.count(c, far);
    BOOST_TEST(total == far);
    for (std::int64_t k = far; k < far + 50; ++k) {
      const auto pick = blend.at(k);
      BOOST_REQUIRE(pick.index == blend.count(pick.component, k));
      BOOST_REQUIRE(pick.index + 1 == blend.count(pick.component, k + 1));
      BOOST_REQUIRE(blend.sequence(pick.component, pick.index) == k);
    }
  }
}

BOOST_AUTO_TEST_CASE(weights_change_at_the_sequence_named_and_not_before_or_after) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const std::size_t count = 2 + seed % 5;
    std::vector<BlendPhase> phases;
    std::int64_t from = 0;
    for (std::uint64_t p = 0; p < 4; ++p) {
      phases.push_back({from, random_weights(100 * seed + p, count)});
      from += 1 + static_cast<std::int64_t>(Philox(seed, p).below(0, 300));
    }
    const Blend blend(phases, count);
    std::vector<std::int64_t> given(count);
    for (std::size_t p = 0; p < 4; ++p) {
      const Blend alone({{0, phases[p].weights}}, count);  // each phase begins anew
      const std::int64_t end = p == 3 ? phases[p].from + 500 : phases[p + 1].from;
      for (std::int64_t k = phases[p].from; k < end; ++k) {
        const auto pick = blend.at(k);
        BOOST_REQUIRE(pick.component == alone.at(k - phases[p].from).component);
        BOOST_REQUIRE(pick.index == given[pick.component]++);
        BOOST_REQUIRE(blend.sequence(pick.component, pick.index) == k);
      }
    }
  }
  const Blend never({{0, {1, 1}}, {10, {1, 0}}}, 2);
  BOOST_TEST(never.sequence(1, 4) < 10);
  BOOST_TEST(never.sequence(1, 5) == -1);
}

BOOST_AUTO_TEST_CASE(faults_of_a_blend_are_refused) {
  const auto refusal = [](std::vector<BlendPhase> phases) { return user_error_of([&] { Blend(phases, 2); }); };
  BOOST_TEST(contains(refusal({}), "from the beginning"));
  BOOST_TEST(contains(refusal({{3, {1, 1}}}), "from the beginning"));
  BOOST_TEST(contains(refusal({{0, {1}}}), "2 components has 1 weights"));
  BOOST_TEST(contains(refusal({{0, {1, -1}}}), "weight 1 of a blend is -1"));
  BOOST_TEST(contains(refusal({{0, {1, NAN}}}), "nan"));
  BOOST_TEST(contains(refusal({{0, {0, 0}}}), "all weights"));
  BOOST_TEST(contains(refusal({{0, {1, 1}}, {5, {1, 1}}, {5, {1, 2}}}), "later"));
}

BOOST_AUTO_TEST_CASE(a_blended_batch_is_the_same_for_any_ranks_threads_and_resumes) {
  const Two data;
  DataLoader whole(data.components, data.config, 0);
  std::vector<std::unique_ptr<DataLoader>> ranks;
  for (std::int64_t r = 0; r < 3; ++r) {
    auto config = data.config;
    config.first = r;
    config.count = 2;
    config.stride = 3;
    ranks.push_back(std::make_unique<DataLoader>(data.components, config, static_cast<int>(r)));
  }
  Batch all, part;
  nlohmann::json middle;
  std::vector<Batch> later;
  for (int step = 0; step < 40; ++step) {
    whole.next(all);
    for (std::int64_t r = 0; r < 3; ++r) {
      ranks[static_cast<std::size_t>(r)]->next(part);
      for (std::int64_t i = 0; i < 2; ++i) BOOST_REQUIRE(equal(part.slice(i, 1), all.slice(r + 3 * i, 1)));
    }
    if (step == 7) middle = whole.state();
    if (step > 7) later.push_back(all);
    if (step == 9) BOOST_TEST((nlohmann::json(ranks[2]->state()) == nlohmann::json(whole.state())));
  }
  // The middle lies in one of the later phases; four ranks go on where one stood.
  for (std::int64_t r = 0; r < 2; ++r) {
    auto config = data.config;
    config.first = 3 * r;
    config.count = 3;
    DataLoader resumed(data.components, config, 2);
    resumed.next(part);
    resumed.restore(middle.get<LoaderState>());
    for (const auto& expected : later) {
      resumed.next(part);
      BOOST_REQUIRE(equal(part, expected.slice(3 * r, 3)));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_component_reads_as_it_would_alone_and_a_source_gives_its_documents_only) {
  const Two data;
  std::vector<Component> parts{{data.components[0].dataset, "man"}, {data.components[0].dataset, "诗"}};
  Sequences blended(parts, {{0, {1, 1}}}, {first_generation(parts[0]), first_generation(parts[1])}, 16,
                    Packing::documents, 3);
  for (std::size_t c = 0; c < 2; ++c) {
    const std::int64_t n = blended.samplers()[c].sequences_per_epoch(0);
    std::multiset<std::int32_t> seen, expected;
    Batch batch;
    for (std::int64_t j = 0; j < n; ++j) {
      blended.fill(blended.blend().sequence(c, j), 1, batch);
      for (const auto token : batch.tokens)
        if (token != 0) seen.insert(token);
    }
    for (int d = 0; d < 60; ++d)
      for (int i = 0; i < 5 + d * 7 % 41; ++i)
        if ((d % 3 == 0) == (c == 1)) expected.insert(1 + 100 * d + i);
    BOOST_CHECK(seen == expected);
  }
  auto config = data.config;
  config.blend.clear();
  const auto message = user_error_of([&] { DataLoader({{data.components[0].dataset, "none"}}, config, 0); });
  BOOST_TEST((contains(message, "'none'") && contains(message, "man, 诗")), message);
}

BOOST_AUTO_TEST_CASE(epochs_are_reported_by_component) {
  const Two data;
  auto config = data.config;
  config.blend = {{0, {1, 2}}};
  DataLoader loader(data.components, config, 0);
  Batch batch;
  for (int step = 0; step < 30; ++step) loader.next(batch);
  const auto progress = loader.progress();
  BOOST_TEST(progress[0].sequences == 60);
  BOOST_TEST(progress[1].sequences == 120);
  for (std::size_t c = 0; c < 2; ++c) {
    const auto per_epoch = (data.components[c].dataset->tokens() + 15) / 16;
    BOOST_TEST(progress[c].epochs == static_cast<double>(progress[c].sequences) / static_cast<double>(per_epoch),
               boost::test_tools::tolerance(1e-12));  // a quotient in doubles
  }
  BOOST_TEST(contains(user_error_of([&] { loader.steps_in(1); }), "train.steps"));
}

BOOST_AUTO_TEST_CASE(another_blend_of_what_was_seen_is_refused_and_of_what_is_to_come_is_not) {
  const Two data;
  DataLoader loader(data.components, data.config, 0);
  Batch batch;
  for (int step = 0; step < 7; ++step) loader.next(batch);  // 42 sequences: into the third phase
  const auto state = loader.state();
  const auto refusal = [&](std::vector<BlendPhase> blend) {
    auto config = data.config;
    config.blend = std::move(blend);
    DataLoader other(data.components, config, 0);
    return user_error_of([&] { other.restore(state); });
  };
  BOOST_TEST(contains(refusal({{0, {3, 2}}, {40, {1, 2}}, {41, {0, 1}}}), "blend was"));
  BOOST_TEST(contains(refusal({{0, {3, 1}}, {39, {1, 2}}, {41, {0, 1}}}), "blend was"));
  BOOST_TEST(contains(refusal({{0, {3, 1}}, {40, {1, 2}}}), "blend was"));
  BOOST_TEST(refusal({{0, {3, 1}}, {40, {1, 2}}, {41, {0, 1}}}) == "<no error>");
  BOOST_TEST(refusal({{0, {3, 1}}, {40, {1, 2}}, {41, {0, 1}}, {42, {5, 1}}}) == "<no error>");
  DataLoader one({data.components[0]}, {.sequence_length = 16, .global_batch = 6, .seed = 3, .count = 6}, 0);
  BOOST_TEST(contains(user_error_of([&] { one.restore(state); }), "components was 2, now is 1"));
  const auto old = nlohmann::json{{"next_sequence", 4}, {"dataset", "aa"}};
  BOOST_TEST(contains(user_error_of([&] { old.get<LoaderState>(); }), "older version"));
}

BOOST_AUTO_TEST_CASE(a_dataset_that_grew_comes_in_with_the_next_epoch_and_a_later_resume_replays_it) {
  for (const int steps_before : {0, 3, 11, 30}) {
    const TempFolder folder;
    auto before = numbered(folder.path(), 1, 40);
    const LoaderConfig config{.sequence_length = 16, .global_batch = 5, .seed = 9, .count = 5};
    auto growing = config;
    growing.growth = Growth::next_epoch;
    DataLoader first(before, config, 0);
    const std::int64_t n = (before->tokens() + 15) / 16;
    Batch batch;
    for (int step = 0; step < steps_before; ++step) first.next(batch);
    const auto state = first.state();

    grow(folder.path(), 50001, 20);
    const auto after = std::make_shared<Dataset>(folder.path(), "train");
    BOOST_TEST(after->fingerprint(std::ssize(before->shards())) == before->fingerprint());
    DataLoader refusing(after, config, 0);
    const auto message = user_error_of([&] { refusing.restore(state); });
    BOOST_TEST((contains(message, "has grown") && contains(message, "next_epoch")), message);

    DataLoader second(after, growing, 2);
    second.restore(state);
    const std::int64_t begin = (state.next_sequence + n - 1) / n * n;  // of the next epoch
    const auto now = second.state().components[0].generations.back();
    BOOST_TEST((now.sequence == begin && now.epoch == begin / n));
    Batch expected;
    std::set<std::int32_t> fresh;
    for (std::int64_t k = state.next_sequence; k < begin + 60; k += 5) {
      second.next(batch);
      first.next(expected);  // which knows nothing of the new shards
      for (std::int64_t i = 0; i < 5; ++i)
        if (k + i < begin) {
          BOOST_REQUIRE(equal(batch.slice(i, 1), expected.slice(i, 1)));
        } else {
          for (const auto token : batch.slice(i, 1).tokens)
            if (token > 50000) fresh.insert(token);
        }
    }
    BOOST_TEST(fresh.size() > 300u);  // of 600, in 60 of the epoch's sequences

    // A third run, and a second growth.
    const auto saved = nlohmann::json(second.state()).dump();
    grow(folder.path(), 60001, 10);
    DataLoader third(std::make_shared<Dataset>(folder.path(), "train"), growing, 0);
    third.restore(nlohmann::json::parse(saved).get<LoaderState>());
    const auto generations = third.state().components[0].generations;
    BOOST_TEST(generations.size() == (steps_before == 0 ? 2u : 3u));
    for (std::int64_t k = third.state().next_sequence; k + 5 <= generations.back().sequence; k += 5) {
      third.next(batch);
      second.next(expected);
      BOOST_REQUIRE(equal(batch, expected));
    }
    // From the very beginning, all that was seen comes again.
    auto origin = third.state();
    origin.next_sequence = 0;
    third.restore(origin);
    DataLoader again(before, config, 0);
    for (std::int64_t k = 0; k + 5 <= begin; k += 5) {
      third.next(batch);
      again.next(expected);
      BOOST_REQUIRE(equal(batch, expected));
    }
  }
}

BOOST_AUTO_TEST_CASE(weights_and_labels_stay_with_their_tokens_through_packing_and_shuffling) {
  const auto weight_of = [](std::int32_t token) { return static_cast<float>(token % 17) / 4; };
  const auto label_of = [](std::int32_t token) { return token % 3 == 0 ? no_label : token + 7; };
  for (const bool labelled : {false, true}) {
    for (const bool weighted : {false, true}) {
      const TempFolder folder;
      {
        DatasetWriter writer(folder.path(), some_info(10000), 150);
        for (int d = 0; d < 60; ++d) {
          std::vector<std::int32_t> text, labels;
          std::vector<float> weights;
          for (int i = 0; i < d * 7 % 43; ++i) {
            text.push_back(1 + 100 * d + i);
            labels.push_back(label_of(text.back()));
            weights.push_back(weight_of(text.back()));
          }
          Document document{.tokens = text};
          if (labelled) document.labels = labels;
          if (weighted && d % 4 != 3) document.loss_weight = weights;  // the others weigh 1
          writer.add("train", document);
        }
        writer.finish();
      }
      verify(folder.path());
      for (const bool map : {true, false}) {
        const auto dataset = std::make_shared<Dataset>(folder.path(), "train", ReadOptions{true, map});
        BOOST_TEST(dataset->has_labels() == labelled);
        BOOST_TEST(dataset->has_loss_weights() == weighted);
        for (const auto packing : {Packing::documents, Packing::none}) {
          DataLoader loader(dataset,
                            {.sequence_length = 13, .global_batch = 9, .packing = packing, .seed = 4, .count = 9}, 0);
          Batch batch;
          int across = 0;
          for (int step = 0; step < 30; ++step) {
            loader.next(batch);
            double sum = 0;
            for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
              const auto token = batch.tokens[i], label = batch.labels[i];
              const auto weight = [&](std::int32_t of) {
                return weighted && (of / 100) % 4 != 3 ? weight_of(of) : 1.0f;
              };
              sum += batch.loss_weight[i];
              if (label == no_label) {
                BOOST_REQUIRE(batch.loss_weight[i] == 0);
                if (labelled && token != 0) BOOST_REQUIRE(label_of(token) == no_label);
              } else if (labelled) {
                BOOST_REQUIRE(token != 0);
                BOOST_REQUIRE(label == label_of(token));
                BOOST_REQUIRE(batch.loss_weight[i] == weight(token));
              } else {
                across += label != token + 1;
                BOOST_REQUIRE(batch.loss_weight[i] == weight(label));
              }
            }
            BOOST_TEST(batch.weight_sum == sum);
          }
          BOOST_TEST((across > 0) == (!labelled && packing == Packing::none));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(what_a_sequence_holds_is_traced_to_documents_and_back) {
  const Two data;
  std::vector<std::vector<Generation>> generations{first_generation(data.components[0]),
                                                   first_generation(data.components[1])};
  Sequences sequences(data.components, data.config.blend, generations, 16, Packing::documents, 3);
  std::map<std::pair<std::size_t, std::int64_t>, std::set<std::int64_t>> seen;  // document: sequences
  constexpr std::int64_t end = 400;                                             // several epochs of each
  Batch batch;
  for (std::int64_t k = 0; k < end; ++k) {
    sequences.fill(k, 1, batch);
    const auto pick = sequences.blend().at(k);
    std::int64_t at = 0;
    for (const auto& span : sequences.samplers()[pick.component].spans(pick.index)) {
      BOOST_REQUIRE(span.at == at);
      for (std::int64_t i = 0; i < span.count; ++i, ++at)
        BOOST_REQUIRE(batch.tokens[static_cast<std::size_t>(at)] ==
                      (pick.component == 0 ? 1 : 50001) + 100 * span.document + span.first + i);
      seen[{pick.component, span.document}].insert(k);
    }
    BOOST_REQUIRE((at == 16 || batch.tokens[static_cast<std::size_t>(at)] == 0));
  }
  for (std::size_t c = 0; c < 2; ++c) {
    std::vector<std::int64_t> documents{7, 0, 24};
    std::map<std::pair<std::size_t, std::int64_t>, std::set<std::int64_t>> found;
    for (const auto& sighting : sequences.samplers()[c].sightings(documents, 0, sequences.blend().count(c, end)))
      found[{c, sighting.document}].insert(sequences.blend().sequence(c, sighting.sequence));
    for (const std::int64_t document : documents) BOOST_CHECK((found[{c, document}] == seen[{c, document}]));
  }
}
