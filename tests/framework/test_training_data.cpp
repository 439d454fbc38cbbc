// What training sees: blends, packing down to attention, growth between runs, and the trace of it all.

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "comm/host/self_communicator.h"
#include "data/shard/dataset_writer.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/train/data_trace.h"
#include "framework/train/trainer.h"
#include "framework/train/training_data.h"
#include "tests/framework/batches.h"
#include "tests/framework/synthetic.h"

using namespace dujiang;
using namespace dujiang::test;
namespace fs = std::filesystem;

namespace {

/// Adds documents [first, last) of the synthetic text to FOLDER; document d is of file "d % 3", 100 bytes at 1000 d.
void add_documents(const fs::path& folder, const data::Tokenizer& tokenizer, int first, int last) {
  data::DatasetInfo info;
  info.vocab_size = tokenizer.vocab_size();
  info.tokenizer_sha256 = tokenizer.sha256();
  info.sources = {{"even", "public domain", ""}, {"odd", "CC BY 4.0", ""}};
  auto writer = fs::exists(folder / "manifest.json") ? data::DatasetWriter::append(folder, info, 700)
                                                     : data::DatasetWriter(folder, info, 700);
  for (int d = first; d < last; ++d) {
    auto ids = tokenizer.encode(synthetic_document(static_cast<std::uint64_t>(d)));
    ids.push_back(tokenizer.eos_id());
    const std::string file = fmt::format("\xce\xc4/{}.txt", d % 3);  // a name in GBK
    writer.add("train", {.tokens = ids,
                         .source = static_cast<std::uint32_t>(d % 2),
                         .file = file,
                         .offset = 1000u * static_cast<std::uint64_t>(d),
                         .bytes = 100});
  }
  writer.finish();
}

struct World {
  data::TempFolder folder;
  std::unique_ptr<data::Tokenizer> tokenizer;
  World() {
    write_synthetic_data(folder.path(), 30);
    tokenizer = data::load_tokenizer((folder.path() / "tokenizer").string());
    add_documents(folder.path() / "a", *tokenizer, 0, 30);
    add_documents(folder.path() / "b", *tokenizer, 30, 40);
  }
  train::Config config() const {
    auto config = tiny_config(folder.path(), "run");
    config.train.steps = 8;
    config.checkpoint.every = 4;
    config.data.blend = {{(folder.path() / "a").string(), "odd", {2, 1}}, {(folder.path() / "b").string(), "", {1, 1}}};
    config.data.blend_at = {32 * 40};
    return config;
  }
};

train::TrainOutcome run(const train::Config& config, bool resume = false) {
  const auto self = comm::make_self_communicator();
  return train::train(config, {.resume = resume}, *self);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_packed_batch_has_the_loss_of_its_documents_one_by_one) {
  const World world;
  const auto dataset = std::make_shared<data::Dataset>(world.folder.path() / "a", "train");
  for (const auto packing : {data::Packing::documents, data::Packing::none}) {
    data::DataLoader loader(dataset,
                            {.sequence_length = 64, .global_batch = 6, .packing = packing, .seed = 2, .count = 6}, 0);
    data::Batch packed;
    loader.next(packed);
    data::DataLoader cut(dataset, {.sequence_length = 64, .global_batch = 6, .seed = 2, .count = 6}, 0);
    data::Batch documents;  // the same tokens, with the documents' bounds
    cut.next(documents);
    BOOST_REQUIRE(packed.tokens == documents.tokens);
    BOOST_REQUIRE(documents.segments.size() > 9u);
    Trainee trainee(tiny_model(world.tokenizer->vocab_size()), adamw(), train::Precision::fp32);
    const double together = trainee.step.run(packed, 6, 1, 0.0).loss;  // at learning rate 0 weights stay
    double sum = 0, labels = 0;
    for (std::size_t s = 0; s + 1 < documents.segments.size(); ++s) {
      const auto begin = documents.segments[s], end = documents.segments[s + 1];
      const auto part = [&](const auto& all) {
        return std::decay_t<decltype(all)>(all.begin() + begin, all.begin() + end);
      };
      data::Batch alone{1,
                        end - begin,
                        part(documents.tokens),
                        part(documents.labels),
                        part(documents.loss_weight),
                        part(documents.positions),
                        {0, end - begin},
                        0};
      for (const float weight : alone.loss_weight) alone.weight_sum += weight;
      if (alone.weight_sum == 0) continue;
      sum += trainee.step.run(alone, 1, 1, 0.0).loss * alone.weight_sum;
      labels += alone.weight_sum;
    }
    // The same sums in another order, in fp32; attention that crosses documents moves the loss by more than 1e-3.
    const double apart = std::abs(together - sum / labels);
    BOOST_TEST((packing == data::Packing::documents ? apart < 1e-5 : apart > 1e-3), apart);
  }
}

BOOST_AUTO_TEST_CASE(every_token_of_a_run_is_traced_to_its_file_and_every_file_to_its_steps) {
  const World world;
  const auto config = world.config();
  BOOST_TEST(run(config).step == 8);
  train::DataTrace trace(config.log.dir);
  BOOST_TEST(trace.steps() == 8);
  data::DataLoader loader(train::open_components(config.data), train::loader_config(config), 0);
  data::Batch batch;
  std::set<std::pair<std::int64_t, std::int64_t>> of_file;  // step, sequence
  const std::string file = "\xce\xc4/1.txt";
  std::size_t odd = 0;
  for (std::int64_t step = 1; step <= 8; ++step) {
    loader.next(batch);
    const auto sequences = trace.step(step);
    BOOST_TEST_REQUIRE(sequences.size() == 12u);
    for (std::size_t r = 0; r < 12; ++r) {
      const auto& sequence = sequences[r];
      BOOST_TEST(sequence.sequence == (step - 1) * 12 + static_cast<std::int64_t>(r));
      const bool a = sequence.dataset.ends_with(": odd");
      odd += a && step <= 3;
      const data::Dataset dataset(world.folder.path() / (a ? "a" : "b"), "train");
      for (const auto& p : sequence.passages) {
        const auto place = dataset.locate(p.document);
        std::vector<std::int32_t> tokens(static_cast<std::size_t>(p.count));
        place.shard->read(place.start + p.first, p.count, tokens.data());
        BOOST_REQUIRE(std::equal(tokens.begin(), tokens.end(),
                                 batch.tokens.begin() + static_cast<std::ptrdiff_t>(r) * 32 + p.at));
        const std::int64_t d = p.document + (a ? 0 : 30);  // as numbered in add_documents
        BOOST_REQUIRE(p.source == (d % 2 == 0 ? "even" : "odd"));
        BOOST_REQUIRE(p.licence == (d % 2 == 0 ? "public domain" : "CC BY 4.0"));
        BOOST_REQUIRE(p.file == fmt::format("\xce\xc4/{}.txt", d % 3));
        BOOST_REQUIRE((p.offset == 1000u * static_cast<std::uint64_t>(d) && p.bytes == 100));
        BOOST_REQUIRE((!a || d % 2 == 1));
        if (p.file == file) of_file.insert({step, sequence.sequence});
      }
    }
    for (int rank = 0; rank < 3; ++rank) {
      const auto part = trace.step(step, rank, 3);
      for (std::size_t i = 0; i < 4; ++i)
        BOOST_REQUIRE(part[i].sequence == sequences[4 * static_cast<std::size_t>(rank) + i].sequence);
    }
  }
  BOOST_TEST(odd == 24u);  // two of three in the first 36 sequences
  std::set<std::pair<std::int64_t, std::int64_t>> found;
  for (const auto& s : trace.file(file, 8)) found.insert({s.step, s.sequence});
  BOOST_TEST((found == of_file));
  BOOST_TEST(data::contains(data::user_error_of([&] { trace.file("nowhere", 8); }), "no document"));
  BOOST_TEST(data::contains(data::user_error_of([&] { trace.step(0); }), "count from 1"));
  BOOST_TEST(data::contains(data::user_error_of([&] { trace.step(1, 0, 5); }), "cannot be shared by 5"));
  std::ifstream metrics(fs::path(config.log.dir) / "metrics.jsonl");
  nlohmann::json last;
  for (std::string line; std::getline(metrics, line);) last = nlohmann::json::parse(line);
  BOOST_TEST(last.at("epochs").size() == 2u);
  for (const auto& progress : loader.progress()) BOOST_TEST(last.at("epochs").at(progress.name) == progress.epochs);
}

BOOST_AUTO_TEST_CASE(a_run_on_a_corpus_that_grew_goes_on_under_the_rule_and_its_trace_stays) {
  const World world;
  auto config = world.config();
  run(config);
  std::vector<std::string> before;
  const auto summary = [&](std::int64_t step) {
    std::string text;
    train::DataTrace trace(config.log.dir);
    for (const auto& sequence : trace.step(step))
      for (const auto& p : sequence.passages)
        text += fmt::format("{} {} {} {};", sequence.dataset, p.document, p.first, p.count);
    return text;
  };
  for (std::int64_t step = 1; step <= 8; ++step) before.push_back(summary(step));
  add_documents(world.folder.path() / "b", *world.tokenizer, 40, 60);
  config.train.steps = 30;
  BOOST_TEST(data::contains(data::user_error_of([&] { run(config, true); }), "data.growth: next_epoch"));
  config.data.growth = data::Growth::next_epoch;
  BOOST_TEST(run(config, true).step == 30);
  for (std::int64_t step = 1; step <= 8; ++step)
    BOOST_TEST(summary(step) == before[static_cast<std::size_t>(step - 1)]);
  train::DataTrace trace(config.log.dir);
  std::int64_t fresh = 0;
  for (const auto& sequence : trace.step(30))
    for (const auto& p : sequence.passages) fresh += p.document >= 10 && !sequence.dataset.ends_with("odd");
  BOOST_TEST(fresh > 0);
  // Without growth since, the rule isn't asked for.
  config.data.growth = data::Growth::refuse;
  BOOST_TEST(run(config, true).step == 30);
}
