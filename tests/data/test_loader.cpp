// Permutation, sampling order, batches, and resuming.

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "data/loader/loader.h"
#include "data/loader/permutation.h"
#include "tests/data/shard_fixture.h"

using namespace dujiang;
using namespace dujiang::data;

namespace {

struct Fixture {
  TempFolder folder;
  Documents documents;
  std::shared_ptr<const Dataset> dataset;
  explicit Fixture(int count = 60, int longest = 50, std::uint64_t seed = 1) {
    documents = random_documents(count, longest, 1000, seed);
    write_dataset(folder.path(), documents, 1000, 300);
    dataset = std::make_shared<Dataset>(folder.path(), "train");
  }
};

/// Documents whose every token tells document and place: token = 100 * document + place, the end token too.
struct Numbered {
  TempFolder folder;
  Documents documents;
  std::shared_ptr<const Dataset> dataset;
  Numbered() {
    for (std::int32_t d = 0; d < 40; ++d) {
      documents.emplace_back(static_cast<std::size_t>(d * 7 % 43));
      std::iota(documents.back().begin(), documents.back().end(), 1 + 100 * d);
    }
    write_dataset(folder.path(), documents, 5000, 200);
    dataset = std::make_shared<Dataset>(folder.path(), "train");
  }
};

Sequences sequences_of(std::shared_ptr<const Dataset> dataset, std::int64_t length, Packing packing,
                       std::optional<std::uint64_t> seed) {
  return {{{dataset, ""}}, {}, {first_generation({dataset, ""})}, length, packing, seed};
}

std::int64_t per_epoch(const Sequences& sequences) {
  return sequences.samplers()[0].sequences_per_epoch(0);
}

LoaderConfig config_of(std::int64_t length, std::int64_t batch, Packing packing = Packing::documents) {
  return {length, batch, packing, 11, 0, batch};
}

void check_equal(const Batch& a, const Batch& b) {
  BOOST_REQUIRE(a.sequences == b.sequences && a.length == b.length);
  BOOST_TEST(a.tokens == b.tokens);
  BOOST_TEST(a.labels == b.labels);
  BOOST_TEST(a.loss_weight == b.loss_weight);
  BOOST_TEST(a.positions == b.positions);
  BOOST_TEST(a.segments == b.segments);
  BOOST_TEST(a.weight_sum == b.weight_sum);
}

/// What holds for every batch: sizes, weights beside labels, segments that cover it, positions from each one's start.
void check_sound(const Batch& batch) {
  const auto size = static_cast<std::size_t>(batch.sequences * batch.length);
  BOOST_REQUIRE(batch.tokens.size() == size && batch.labels.size() == size && batch.loss_weight.size() == size &&
                batch.positions.size() == size);
  BOOST_REQUIRE(batch.segments.front() == 0);
  BOOST_REQUIRE(batch.segments.back() == static_cast<std::int32_t>(size));
  for (std::size_t s = 0; s + 1 < batch.segments.size(); ++s) {
    BOOST_REQUIRE(batch.segments[s] < batch.segments[s + 1]);
    BOOST_REQUIRE(batch.segments[s] / batch.length == (batch.segments[s + 1] - 1) / batch.length);
    for (std::int32_t i = batch.segments[s]; i < batch.segments[s + 1]; ++i)
      BOOST_REQUIRE(batch.positions[static_cast<std::size_t>(i)] == i - batch.segments[s]);
  }
  double sum = 0;
  for (std::size_t i = 0; i < size; ++i) {
    BOOST_REQUIRE(batch.loss_weight[i] == (batch.labels[i] == no_label ? 0.0f : 1.0f));
    sum += batch.loss_weight[i];
  }
  BOOST_TEST(batch.weight_sum == sum);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_permutation_is_a_bijection) {
  for (const std::int64_t n : {1, 2, 3, 5, 31, 64, 65, 1000, 4096, 65537, 300000}) {
    const Permutation permutation(n, 3, 4, 5);
    std::vector<bool> seen(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t to = permutation(i);
      BOOST_REQUIRE(to >= 0 && to < n && !seen[static_cast<std::size_t>(to)]);
      seen[static_cast<std::size_t>(to)] = true;
    }
  }
}

BOOST_AUTO_TEST_CASE(seed_stream_and_epoch_each_give_another_permutation) {
  auto order = [](std::uint64_t seed, std::uint64_t stream, std::uint64_t epoch) {
    const Permutation permutation(100, seed, stream, epoch);
    std::vector<std::int64_t> to(100);
    for (std::int64_t i = 0; i < 100; ++i) to[static_cast<std::size_t>(i)] = permutation(i);
    return to;
  };
  const auto base = order(1, 2, 0);
  BOOST_CHECK(base == order(1, 2, 0));
  BOOST_CHECK(base != order(2, 2, 0));
  BOOST_CHECK(base != order(1, 3, 0));
  BOOST_CHECK(base != order(1, 2, 1));
  std::vector<std::int64_t> identity(100);
  std::iota(identity.begin(), identity.end(), 0);
  BOOST_CHECK(base != identity);
}

BOOST_AUTO_TEST_CASE(the_permutation_sends_every_index_everywhere_alike) {
  for (const std::int64_t n : {3, 10, 97}) {
    const int epochs = 20000;
    // Pairs (where 0 goes, where 1 goes): n * (n - 1) cells, all as likely. For such counts chi-square has mean
    // cells - 1 and variance 2 (cells - 1); six deviations are never passed by chance in a seeded test that is right.
    std::map<std::pair<std::int64_t, std::int64_t>, int> counts;
    for (int e = 0; e < epochs; ++e) {
      const Permutation permutation(n, 9, 1, static_cast<std::uint64_t>(e));
      ++counts[{permutation(0), permutation(1)}];
    }
    const double cells = static_cast<double>(n * (n - 1)), expected = epochs / cells;
    double chi_square = (cells - static_cast<double>(counts.size())) * expected;
    for (const auto& [cell, count] : counts) chi_square += (count - expected) * (count - expected) / expected;
    BOOST_TEST(std::abs(chi_square - (cells - 1)) < 6 * std::sqrt(2 * (cells - 1)), "n " << n << ": " << chi_square);
  }
}

BOOST_AUTO_TEST_CASE(every_token_is_an_input_once_per_epoch_and_a_label_once_where_it_has_a_predecessor) {
  const Numbered data;
  std::map<std::int32_t, int> all, followers;
  for (const auto& document : data.documents)
    for (std::size_t i = 0; i < document.size(); ++i) {
      ++all[document[i]];
      if (i > 0) ++followers[document[i]];
    }
  for (const std::int64_t length : {1, 7, 16, 64, 5000}) {
    Sequences sampler = sequences_of(data.dataset, length, Packing::documents, 5);
    const std::int64_t n = per_epoch(sampler);
    BOOST_TEST(n == (data.dataset->tokens() + length - 1) / length);
    for (const std::int64_t epoch : {0, 1, 7}) {
      Batch batch;
      sampler.fill(epoch * n, n, batch);
      check_sound(batch);
      std::map<std::int32_t, int> inputs, labels;
      for (const auto token : batch.tokens)
        if (token != 0) ++inputs[token];
      for (const auto label : batch.labels)
        if (label != no_label) ++labels[label];
      BOOST_CHECK(inputs == all);
      BOOST_CHECK(labels == followers);
    }
  }
}

BOOST_AUTO_TEST_CASE(labels_and_segments_never_cross_documents) {
  const Numbered data;
  for (const std::int64_t length : {5, 16, 200}) {
    DataLoader loader(data.dataset, config_of(length, 8), 0);
    Batch batch;
    for (int step = 0; step < 40; ++step) {
      loader.next(batch);
      check_sound(batch);
      for (std::size_t i = 0; i < batch.tokens.size(); ++i)
        if (batch.labels[i] != no_label) BOOST_REQUIRE(batch.labels[i] == batch.tokens[i] + 1);
      for (std::size_t s = 0; s + 1 < batch.segments.size(); ++s)
        for (auto i = static_cast<std::size_t>(batch.segments[s]);
             i + 1 < static_cast<std::size_t>(batch.segments[s + 1]); ++i)
          BOOST_REQUIRE((batch.tokens[i] == 0 ? batch.tokens[i + 1] == 0 : batch.tokens[i + 1] == batch.tokens[i] + 1));
    }
  }
}

BOOST_AUTO_TEST_CASE(without_packing_a_sequence_is_one_segment_that_predicts_across_documents) {
  const Numbered data;
  Sequences sampler = sequences_of(data.dataset, 64, Packing::none, 5);
  Batch batch;
  sampler.fill(0, per_epoch(sampler), batch);
  check_sound(batch);
  BOOST_TEST(batch.weight_sum == static_cast<double>(data.dataset->tokens() - 1));  // all but the stream's last
  const bool padded = data.dataset->tokens() % 64 != 0;
  BOOST_TEST(batch.segments.size() == static_cast<std::size_t>(batch.sequences + 1 + padded));
  for (std::int64_t row = 0; row < batch.sequences; ++row)
    for (std::int64_t i = row * 64; i < row * 64 + 63; ++i)
      if (batch.labels[static_cast<std::size_t>(i)] != no_label)
        BOOST_REQUIRE(batch.labels[static_cast<std::size_t>(i)] == batch.tokens[static_cast<std::size_t>(i + 1)]);
}

BOOST_AUTO_TEST_CASE(epochs_differ_in_order_and_in_cuts) {
  const Fixture data;
  Sequences sampler = sequences_of(data.dataset, 32, Packing::documents, 5);
  const std::int64_t n = per_epoch(sampler);
  Batch first, second;
  sampler.fill(0, n, first);
  sampler.fill(n, n, second);
  auto rows = [&](const Batch& batch) {
    std::vector<std::vector<std::int32_t>> out;
    for (std::int64_t r = 0; r < n; ++r) out.emplace_back(batch.slice(r, 1).tokens);
    std::ranges::sort(out);
    return out;
  };
  std::vector<std::vector<std::int32_t>> common;
  std::ranges::set_intersection(rows(first), rows(second), std::back_inserter(common));
  BOOST_TEST(common.size() < static_cast<std::size_t>(n / 4));
}

BOOST_AUTO_TEST_CASE(parts_of_one_document_come_in_another_order_each_epoch) {
  const TempFolder folder;
  std::vector<std::int32_t> text(640);
  std::iota(text.begin(), text.end(), 1);
  write_dataset(folder.path(), {text}, 1000);
  Sequences sampler = sequences_of(std::make_shared<Dataset>(folder.path(), "train"), 32, Packing::documents, 5);
  Batch stored, first, second;
  sequences_of(std::make_shared<Dataset>(folder.path(), "train"), 32, Packing::documents, {}).fill(0, 20, stored);
  sampler.fill(0, 20, first);
  sampler.fill(20, 20, second);
  BOOST_TEST(std::ranges::equal(stored.tokens, text));
  BOOST_CHECK(first.tokens != stored.tokens);
  BOOST_CHECK(first.tokens != second.tokens);
}

BOOST_AUTO_TEST_CASE(a_sequence_depends_on_its_number_alone) {
  const Fixture data;
  for (const auto packing : {Packing::documents, Packing::none}) {
    Sequences forward = sequences_of(data.dataset, 24, packing, 5),
              backward = sequences_of(data.dataset, 24, packing, 5);
    const std::int64_t n = 3 * per_epoch(forward) / 2;
    std::vector<Batch> all(static_cast<std::size_t>(n));
    for (std::int64_t k = 0; k < n; ++k) forward.fill(k, 1, all[static_cast<std::size_t>(k)]);
    Batch one, whole;
    for (std::int64_t k = n - 1; k >= 0; --k) {
      backward.fill(k, 1, one);
      check_equal(one, all[static_cast<std::size_t>(k)]);
    }
    forward.fill(0, n, whole);
    for (std::int64_t k = 0; k < n; ++k) check_equal(whole.slice(k, 1), all[static_cast<std::size_t>(k)]);
  }
}

BOOST_AUTO_TEST_CASE(ranks_share_the_batch_that_one_rank_would_take) {
  const Fixture data;
  DataLoader alone(data.dataset, config_of(20, 12));
  for (const std::int64_t ranks : {2, 3, 4}) {
    auto begin = alone.state();
    begin.next_sequence = 0;
    alone.restore(begin);
    std::vector<std::unique_ptr<DataLoader>> loaders, strided;
    for (std::int64_t r = 0; r < ranks; ++r) {
      LoaderConfig config = config_of(20, 12);
      config.first = 12 * r / ranks;
      config.count = 12 / ranks;
      loaders.push_back(std::make_unique<DataLoader>(data.dataset, config));
      config.first = r;  // and every so many sequences
      config.stride = ranks;
      strided.push_back(std::make_unique<DataLoader>(data.dataset, config));
    }
    Batch whole, part;
    for (int step = 0; step < 15; ++step) {
      alone.next(whole);
      double weights = 0;
      for (std::int64_t r = 0; r < ranks; ++r) {
        loaders[static_cast<std::size_t>(r)]->next(part);
        check_equal(part, whole.slice(12 * r / ranks, 12 / ranks));
        weights += part.weight_sum;
        BOOST_CHECK(loaders[static_cast<std::size_t>(r)]->state() == alone.state());
        strided[static_cast<std::size_t>(r)]->next(part);
        for (std::int64_t i = 0; i < 12 / ranks; ++i) check_equal(part.slice(i, 1), whole.slice(i * ranks + r, 1));
      }
      BOOST_TEST(weights == whole.weight_sum);
    }
  }
}

BOOST_AUTO_TEST_CASE(prefetched_batches_are_those_made_directly) {
  const Fixture data;
  DataLoader direct(data.dataset, config_of(20, 6), 0), one(data.dataset, config_of(20, 6), 1),
      four(data.dataset, config_of(20, 6), 4);
  Batch a, b, c;
  for (int step = 0; step < 60; ++step) {
    direct.next(a);
    one.next(b);
    four.next(c);
    check_equal(a, b);
    check_equal(a, c);
    BOOST_TEST(one.state().next_sequence == (step + 1) * 6);
    BOOST_CHECK(direct.state() == four.state());
  }
}

BOOST_AUTO_TEST_CASE(resume_is_exact) {
  const Fixture data;
  for (const int prefetch : {0, 3}) {
    DataLoader whole(data.dataset, config_of(20, 7), prefetch);
    Batch a, b;
    for (int step = 0; step < 9; ++step) whole.next(a);
    const std::string saved = nlohmann::json(whole.state()).dump();
    DataLoader resumed(data.dataset, config_of(20, 7), prefetch);
    resumed.next(b);  // a loader that already ran ahead forgets what it prepared
    resumed.restore(nlohmann::json::parse(saved).get<LoaderState>());
    for (int step = 0; step < 30; ++step) {
      whole.next(a);
      resumed.next(b);
      check_equal(a, b);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_state_of_other_data_or_settings_is_refused_naming_what_differs) {
  const Fixture data, other(60, 50, 2);
  DataLoader loader(data.dataset, config_of(20, 4));
  auto refusal = [&](auto change) {
    LoaderState state = loader.state();
    change(state);
    return user_error_of([&] { loader.restore(state); });
  };
  BOOST_TEST(
      contains(refusal([&](auto& s) { s.components[0].generations[0].fingerprint = other.dataset->fingerprint(); }),
               "dataset was " + other.dataset->fingerprint()));
  BOOST_TEST(contains(refusal([](auto& s) { s.sequence_length = 21; }), "sequence_length was 21, now is 20"));
  BOOST_TEST(contains(refusal([](auto& s) { s.global_batch = 8; }), "global_batch was 8, now is 4"));
  BOOST_TEST(contains(refusal([](auto& s) { s.packing = "none"; }), "packing was none, now is documents"));
  const auto two = refusal([](auto& s) { s.seed = 12, s.global_batch = 5; });
  BOOST_TEST((contains(two, "seed was 12, now is 11") && contains(two, "global_batch was 5")), two);
  BOOST_TEST(refusal([](auto&) {}) == "<no error>");
}

BOOST_AUTO_TEST_CASE(the_fingerprint_is_of_content_and_order) {
  const Documents documents = random_documents(30, 50, 1000, 1);
  auto print = [&](const Documents& some, std::int64_t vocab_size) {
    const TempFolder folder;
    write_dataset(folder.path(), some, vocab_size);
    return Dataset(folder.path(), "train").fingerprint();
  };
  Documents swapped = documents, altered = documents;
  std::swap(swapped[0], swapped[1]);
  altered[2].push_back(5);
  const auto base = print(documents, 1000);
  BOOST_TEST(base == print(documents, 1000));
  BOOST_TEST(base != print(swapped, 1000));
  BOOST_TEST(base != print(altered, 1000));
  BOOST_TEST(base != print(documents, 1001));
}

BOOST_AUTO_TEST_CASE(an_error_in_the_prefetching_thread_comes_out_of_next) {
  const TempFolder folder;
  write_dataset(folder.path(), random_documents(60, 50, 1000, 1), 1000);
  const auto path = folder.path() / "train-00000.h5";
  {
    const auto tokens = ShardReader(path).tokens();
    std::ifstream in(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    // The end of document 40 among the offsets, found by the pattern of two neighbours.
    const ShardReader shard(path);
    const auto pair = std::string(reinterpret_cast<const char*>(&shard.doc_offsets()[40]), 16);
    const auto at = bytes.find(pair);
    BOOST_REQUIRE(at != std::string::npos);
    const std::uint64_t beyond = static_cast<std::uint64_t>(tokens) + 1000;
    bytes.replace(at, 8, reinterpret_cast<const char*>(&beyond), 8);
    std::ofstream(path, std::ios::binary) << bytes;
  }
  DataLoader loader(std::make_shared<Dataset>(folder.path(), "train"), config_of(20, 4));
  Batch batch;
  for (int call = 0; call < 2; ++call) {
    const auto message = user_error_of([&] { loader.next(batch); });
    BOOST_TEST((contains(message, "train-00000.h5") && contains(message, "doc_offsets")), message);
  }
}

BOOST_AUTO_TEST_CASE(a_loader_ends_cleanly_whenever_it_is_dropped) {
  const Fixture data;
  for (int steps = 0; steps < 20; ++steps) {
    DataLoader loader(data.dataset, config_of(20, 4), 1 + steps % 4);
    Batch batch;
    for (int s = 0; s < steps % 5; ++s) loader.next(batch);
  }
}

BOOST_AUTO_TEST_CASE(evaluation_reads_the_split_once_in_order_and_pads_alike_on_every_rank) {
  const Numbered data;
  std::vector<std::int32_t> stream;
  for (const auto& document : data.documents) stream.insert(stream.end(), document.begin(), document.end());
  std::vector<std::int32_t> seen;
  std::vector<EvalReader> readers;
  for (std::int64_t r = 0; r < 3; ++r) readers.push_back({data.dataset, {16, 9, Packing::documents, 0, 3 * r, 3}});
  int batches = 0;
  double weights = 0;
  for (bool more = true; more;) {
    for (auto& reader : readers) {
      Batch batch;
      const bool got = reader.next(batch);
      if (&reader == &readers[0]) more = got;
      BOOST_REQUIRE(got == more);
      if (!got) continue;
      ++batches;
      BOOST_TEST(batch.sequences == 3);
      check_sound(batch);
      weights += batch.weight_sum;
      for (const auto token : batch.tokens)
        if (token != 0) seen.push_back(token);
    }
  }
  BOOST_TEST(seen == stream);
  BOOST_TEST(batches == 3 * ((readers[0].sequences() + 8) / 9));
  const auto with_tokens = std::ranges::count_if(data.documents, [](const auto& d) { return !d.empty(); });
  BOOST_TEST(weights == static_cast<double>(data.dataset->tokens() - with_tokens));
  readers[0].rewind();
  Batch again;
  BOOST_TEST(readers[0].next(again));
  BOOST_TEST(std::equal(again.tokens.begin(), again.tokens.end(), stream.begin()));
}

BOOST_AUTO_TEST_CASE(a_slice_is_a_batch_of_its_own) {
  const Fixture data;
  DataLoader loader(data.dataset, config_of(20, 6), 0);
  Batch batch;
  loader.next(batch);
  check_equal(batch.slice(0, 6), batch);
  double weights = 0;
  for (std::int64_t first = 0; first < 6; first += 2) {
    const Batch part = batch.slice(first, 2);
    check_sound(part);
    BOOST_TEST(std::equal(part.tokens.begin(), part.tokens.end(), batch.tokens.begin() + first * 20));
    weights += part.weight_sum;
  }
  BOOST_TEST(weights == batch.weight_sum);
  BOOST_TEST(batch.slice(6, 0).segments == std::vector<std::int32_t>{0});
  BOOST_CHECK_THROW(batch.slice(5, 2), Error);
}

BOOST_AUTO_TEST_CASE(bad_settings_are_refused) {
  const Fixture data;
  auto with = [&](LoaderConfig config) { return user_error_of([&] { DataLoader(data.dataset, config); }); };
  BOOST_TEST(contains(with({0, 4, Packing::none, 1, 0, 4}), "sequence_length is 0"));
  BOOST_TEST(contains(with({8, 0, Packing::none, 1, 0, 0}), "global_batch is 0"));
  BOOST_TEST(contains(with({8, 4, Packing::none, 1, 2, 3}), "3 sequences from 2 on"));
  BOOST_TEST(contains(with({8, 4, Packing::none, 1, 1, 2, 3}), "every 3th"));
  BOOST_TEST(contains(user_error_of([] { packing_of("document"); }), "'document'"));
  BOOST_CHECK(packing_of("none") == Packing::none);
}
