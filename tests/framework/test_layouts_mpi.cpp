// Started by mpirun: every layout gives the same model on real processes. test_layouts_mpi core: a part of the matrix
// on made-up text; test_layouts_mpi whole POETRY: all of it on poems, and bf16 over 300 steps. Exits with 77 when there
// are no poems.

#include <cstring>
#include <nlohmann/json.hpp>

#include "comm/bootstrap.h"
#include "data/corpus/read/input.h"
#include "data/loader/loader.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/base/threads.h"
#include "framework/train/agreement.h"
#include "framework/train/evaluate.h"
#include "tests/framework/layout_runs.h"

using namespace dujiang;
using namespace dujiang::test;
using train::Precision;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t length = 32, sequences = 8;

struct Text {
  fs::path folder;
  std::int64_t vocabulary;
};

/// FOLDER/data from the first poems of `file`, with a tokenizer of their own.
void write_poems(const fs::path& folder, const std::string& file) {
  constexpr int poems = 1000;
  std::vector<std::string> texts;
  data::LineReader lines(file);
  for (std::string line; std::ssize(texts) < poems && lines.next(line);)
    texts.push_back(nlohmann::json::parse(line).at("text").get<std::string>());
  write_data(folder, {.type = "bpe", .vocab_size = 2800, .character_coverage = 0.98}, texts, 50);
}

Lesson lesson_of(const Text& text, int steps, Precision precision, bool strict = false) {
  Lesson lesson{.model = tiny_model(text.vocabulary),
                .batches = std::vector<data::Batch>(static_cast<std::size_t>(steps)),
                .precision = precision,
                .strict = strict};
  data::DataLoader loader(
      std::make_shared<const data::Dataset>(text.folder / "data", "train"),
      {.sequence_length = length, .global_batch = sequences, .seed = 9, .first = 0, .count = sequences});
  for (auto& batch : lesson.batches) loader.next(batch);
  return lesson;
}

struct Graded {
  Course course;
  double eval_loss = 0;
};

Graded learn(const Text& text, const Lesson& lesson, const LayoutCase& layout, comm::Communicator& ranks) {
  Graded graded;
  graded.course = follow(lesson, layout, ranks, [&](train::TrainStep& step) {
    const auto share = step.share_of(sequences);
    data::EvalReader reader(std::make_shared<const data::Dataset>(text.folder / "data", "valid"),
                            {.sequence_length = length,
                             .global_batch = sequences,
                             .first = share.first,
                             .count = share.count,
                             .stride = share.stride});
    graded.eval_loss = train::evaluate_split(step.model(), reader, 0, step.mesh().dp());
  });
  return graded;
}

/// Runs the chosen layouts; those of one rank on rank 0, while the others wait for it. `check` runs on rank 0.
void compare(const Text& text, const Lesson& lesson, const std::vector<LayoutCase>& layouts, comm::Communicator& world,
             const std::function<void(const LayoutCase&, const Graded& alone, const Graded& ours)>& check) {
  const auto self = comm::make_self_communicator();
  Graded alone;
  if (world.rank() == 0) alone = learn(text, lesson, {"alone", 1, {}, sequences}, *self);
  for (const auto& layout : layouts) {
    if (layout.ranks == 1 && world.rank() > 0) continue;
    const auto ours = learn(text, lesson, layout, layout.ranks == 1 ? *self : world);
    if (world.rank() == 0) check(layout, alone, ours);
  }
  const auto& losses = alone.course.losses;
  if (world.rank() == 0 && losses.size() >= 50)
    DUJIANG_CHECK(losses.back() < 0.95 * losses.front(), "the model does not learn: {} to {}", losses.front(),
                  losses.back());
  world.barrier(default_stream({})).wait_host();
}

double apart(double a, double b) {
  return std::abs(a / b - 1);
}

void check_fp32(const Text& text, const std::vector<LayoutCase>& layouts, comm::Communicator& world) {
  compare(text, lesson_of(text, 50, Precision::fp32), layouts, world,
          [](const LayoutCase& layout, const Graded& alone, const Graded& ours) {
            const double loss = worst_ratio(ours.course.losses, alone.course.losses);
            const double norm = worst_ratio(ours.course.norms, alone.course.norms);
            const auto weight = farthest(ours.course.weights, alone.course.weights);
            const double eval = apart(ours.eval_loss, alone.eval_loss);
            fmt::print("fp32, {}: losses differ by {:.1e}, held-out by {:.1e}, norms by {:.1e}, {} by {:.1e}\n",
                       layout.name, loss, eval, norm, weight.first, weight.second);
            // A mean over 250 tokens is summed in another order (1e-7), and so are the gradients that 50 steps carry
            // on.
            DUJIANG_CHECK(loss <= 1e-5 && eval <= 1e-5, "fp32, {}: losses differ by {:.2e}, the held-out one by {:.2e}",
                          layout.name, loss, eval);
            DUJIANG_CHECK(norm <= 1e-4, "fp32, {}: norms differ by {:.2e}", layout.name, norm);
            // Adam makes a whole step (3e-3, a weight being some 8e-2) of a gradient however small, so where one is a
            // difference of roundings the weight moves by chance: few do.
            DUJIANG_CHECK(weight.second <= 1e-4, "fp32, {}: {} differs by {:.2e}", layout.name, weight.first,
                          weight.second);
          });
}

/// Means of `window` losses.
std::vector<double> smoothed(const std::vector<double>& losses, std::size_t window) {
  std::vector<double> means;
  for (std::size_t i = 0; i + window <= losses.size(); i += window) {
    double sum = 0;
    for (std::size_t k = 0; k < window; ++k) sum += losses[i + k];
    means.push_back(sum / static_cast<double>(window));
  }
  return means;
}

void check_bf16(const Text& text, int steps, const std::vector<LayoutCase>& layouts, comm::Communicator& world) {
  compare(text, lesson_of(text, steps, Precision::bf16), layouts, world,
          [](const LayoutCase& layout, const Graded& alone, const Graded& ours) {
            const auto first = [](const std::vector<double>& losses) {
              return std::vector<double>(losses.begin(), losses.begin() + 50);
            };
            const double loss = worst_ratio(first(ours.course.losses), first(alone.course.losses));
            const auto a = smoothed(ours.course.losses, 25), b = smoothed(alone.course.losses, 25);
            std::string windows;
            double late = 0;  // the mean difference of the second half
            for (std::size_t i = 0; i < a.size(); ++i) {
              windows += fmt::format(" {:+.1e}", a[i] / b[i] - 1);
              if (2 * i >= a.size()) late += (a[i] / b[i] - 1) / static_cast<double>((a.size() + 1) / 2);
            }
            fmt::print("bf16, {}: losses of 50 steps differ by {:.1e}; means of 25:{}\n", layout.name, loss, windows);
            // A sum that is cut elsewhere is rounded to 8 bits (4e-3) elsewhere; the mean over 250 tokens moves by a
            // twentieth of that, and so do the weights that follow.
            DUJIANG_CHECK(loss <= 2e-3, "bf16, {}: losses differ by {:.2e}", layout.name, loss);
            // From then on courses differ by chance, within a band, and on neither side of each other for long.
            DUJIANG_CHECK(worst_ratio(a, b) <= 2e-3, "bf16, {}: smoothed losses differ by{}", layout.name, windows);
            DUJIANG_CHECK(std::abs(late) <= 1e-3, "bf16, {}: a drift of {:+.1e}: smoothed losses differ by{}",
                          layout.name, late, windows);
          });
}

void check_strict(const Text& text, int steps, std::vector<LayoutCase> layouts, comm::Communicator& world) {
  std::erase_if(layouts, [](const LayoutCase& layout) { return layout.parallel.sequence; });
  const auto one_thread = layouts;
  for (auto layout : one_thread) {
    layout.name += ", 2 threads";
    layout.threads = 2;
    layouts.push_back(layout);
  }
  for (const auto precision : {Precision::fp32, Precision::bf16}) {
    compare(text, lesson_of(text, steps, precision, true), layouts, world,
            [&](const LayoutCase& layout, const Graded& alone, const Graded& ours) {
              const auto weight = farthest(ours.course.weights, alone.course.weights);
              DUJIANG_CHECK(same_bits(ours.course, alone.course),
                            "strict, {}, {}: losses differ by {:.2e}, {} by {:.2e}", name_of(precision), layout.name,
                            worst_ratio(ours.course.losses, alone.course.losses), weight.first, weight.second);
            });
    if (world.rank() == 0)
      fmt::print("strict, {}: {} layouts have the same bits after {} steps\n", name_of(precision), layouts.size(),
                 steps);
  }
}

std::vector<LayoutCase> chosen(int ranks, bool whole) {
  // Each kind of collective once.
  const std::vector<std::string> core = {
      "dp 2, zero 3", "tp 2, sequence", "dp 2, micro-batch 3", "dp 4, zero 2", "dp 2 x tp 2, zero 1, sequence", "tp 4"};
  auto layouts = layout_matrix();
  std::erase_if(layouts, [&](const LayoutCase& layout) {
    if (whole && ranks == 2 && layout.ranks == 1) return false;
    return layout.ranks != ranks || (!whole && std::find(core.begin(), core.end(), layout.name) == core.end());
  });
  return layouts;
}

}  // namespace

int main(int count, char** words) {
  return comm::run_job([=] {
    const bool whole = count == 3 && std::strcmp(words[1], "whole") == 0;
    DUJIANG_CHECK(whole || (count == 2 && std::strcmp(words[1], "core") == 0), "usage: core | whole POETRY");
    if (whole && !fs::exists(words[2])) {
      fmt::print("skipped: {} is not there\n", words[2]);
      return 77;
    }
    const auto world = comm::make_communicator();
    set_thread_count(1);
    const std::unique_ptr<TempFolder> made = world->rank() == 0 ? std::make_unique<TempFolder>() : nullptr;
    Text text{train::broadcast_text(made ? made->path().string() : "", 0, *world), 0};
    train::together(*world, [&] {
      if (world->rank() > 0) return;
      if (whole) {
        write_poems(text.folder, words[2]);
      } else {
        write_synthetic_data(text.folder);
      }
    });
    text.vocabulary = data::load_tokenizer((text.folder / "tokenizer").string())->vocab_size();
    const auto layouts = chosen(world->size(), whole);
    check_fp32(text, layouts, *world);
    check_bf16(text, whole ? 300 : 50, layouts, *world);
    check_strict(text, whole ? 50 : 3, layouts, *world);
    world->barrier(default_stream({})).wait_host();  // before the folder goes
    return 0;
  });
}
