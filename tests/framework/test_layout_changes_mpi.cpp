// Started by mpirun on 4 processes: a run that changes its layout at every resume, and checkpoints that one layout
// saves and another saves again.

#include <spdlog/spdlog.h>

#include "comm/bootstrap.h"
#include "framework/base/threads.h"
#include "framework/train/agreement.h"
#include "framework/train/checkpoint.h"
#include "framework/train/trainer.h"
#include "tests/framework/layout_runs.h"

using namespace dujiang;
using namespace dujiang::test;
using train::Precision;
namespace fs = std::filesystem;

namespace {

/// The first `ranks` of the world do it; the others wait.
void on_first(int ranks, comm::Communicator& world, const std::function<void(comm::Communicator&)>& action) {
  const auto part = world.split(world.rank() < ranks ? 0 : -1, world.rank());
  if (part) action(*part);
  world.barrier(default_stream({})).wait_host();
}

std::map<std::string, std::vector<float>> weights_in(const fs::path& checkpoint) {
  std::map<std::string, std::vector<float>> weights;
  const train::SafetensorsSet files(checkpoint, "model");
  for (const auto& name : files.names()) weights[name] = files.read(name).floats();
  return weights;
}

void check_changing_run(const fs::path& folder, Precision precision, Dtype moments, bool strict,
                        comm::Communicator& world) {
  const auto config_of = [&](const std::string& run) {
    auto config = tiny_config(folder, fmt::format("{}-{}-{}-{}", run, name_of(precision), name_of(moments), strict));
    config.optimizer.moments = moments;
    config.train.global_batch = 8;
    config.train.precision = precision;
    config.train.strict = strict;
    config.train.strict_ways = 4;
    config.train.eval_every = 10;
    config.checkpoint.every = 5;
    config.checkpoint.keep = 10;
    return config;
  };
  const auto straight = config_of("straight");
  on_first(1, world, [&](comm::Communicator& ranks) { train::train(straight, {}, ranks); });

  const auto changing = config_of("changing");
  struct Stage {
    int ranks;
    train::ParallelSection parallel;
    std::int64_t micro_batch;
    train::Recompute recompute;
  };
  const Stage stages[] = {{2, {}, 4, train::Recompute::none},
                          {2, {.tensor = 2, .zero = 1}, 2, train::Recompute::attention},
                          {4, {.zero = 3}, 1, train::Recompute::block},
                          {4, {.tensor = 2, .zero = 2}, 2, train::Recompute::none},
                          {1, {}, 8, train::Recompute::none}};
  const auto checkpoint = [](const train::Config& config, std::int64_t step) {
    return fs::path(config.log.dir) / "checkpoints" / fmt::format("step-{:06}", step);
  };
  std::int64_t start = 0;
  for (const auto& stage : stages) {
    on_first(stage.ranks, world, [&](comm::Communicator& ranks) {
      auto config = changing;
      config.parallel = stage.parallel;
      config.train.micro_batch = stage.micro_batch;
      config.train.recompute = stage.recompute;
      train::train(config, {.resume = start > 0}, ranks);
    });
    if (start == 20) continue;  // the last one only loads
    // As if ended five steps on.
    train::together(world, [&] {
      for (std::int64_t step = start + 10; world.rank() == 0 && step <= 20; step += 5)
        fs::remove_all(checkpoint(changing, step));
    });
    start += 5;
  }
  train::together(world, [&] {
    if (world.rank() > 0) return;
    const auto a = checkpoint(changing, 20), b = checkpoint(straight, 20);
    if (strict) {
      DUJIANG_CHECK(same_checkpoint(a, b), "{}: {} and {} differ", name_of(precision), a.string(), b.string());
      DUJIANG_CHECK(metric(changing.log.dir, "loss") == metric(straight.log.dir, "loss"), "losses differ");
      fmt::print("strict, {}: five layouts in turn leave the checkpoint of one\n", name_of(precision));
      return;
    }
    double worst = 0;
    const auto ours = metric(changing.log.dir, "loss"), alone = metric(straight.log.dir, "loss");
    for (const auto& [step, loss] : alone) worst = std::max(worst, std::abs(ours.at(step) / loss - 1));
    const auto [name, apart] = farthest(weights_in(a), weights_in(b));
    fmt::print("{}: five layouts in turn: losses differ by {:.1e}, {} by {:.1e}\n", name_of(precision), worst, name,
               apart);
    // As where the layout stays the same (test_layouts_mpi).
    DUJIANG_CHECK(worst <= 1e-6 && apart <= 1e-4, "losses differ by {:.2e}, {} by {:.2e}", worst, name, apart);
  });
}

void check_saved_again(const fs::path& folder, Precision precision, Dtype moments, comm::Communicator& world) {
  const auto config = tiny_model(51, precision == Precision::bf16);
  Lesson lesson{.model = config, .batches = markov_batches(2, 8, 16, 51), .precision = precision};
  lesson.optimizer.moments = moments;
  const auto save = [&](const train::TrainStep& step, const std::string& name, comm::Communicator& ranks) {
    train::CheckpointContents contents{.model = config,
                                       .dtype = train::compute_dtype(precision),
                                       .weights = step.weights(),
                                       .optimizer = step.optimizer_state(),
                                       .tokenizer = {},
                                       .state = {{"tokens", 1}}};
    return train::save_checkpoint(folder / fmt::format("{}-{}", name, name_of(precision)), 2, contents, 1, ranks);
  };
  std::vector<LayoutCase> layouts = {{"one rank", 1}};
  for (const auto& layout : layout_matrix())
    if (layout.ranks > 1 && layout.ranks <= world.size() && layout.recompute == train::Recompute::elementwise)
      layouts.push_back(layout);
  for (const auto& layout : layouts) {
    const auto place = folder / fmt::format("trained-{}", name_of(precision)) / "step-000002";
    on_first(layout.ranks, world, [&](comm::Communicator& ranks) {
      follow(lesson, layout, ranks, [&](const train::TrainStep& step) { save(step, "trained", ranks); });
    });
    for (const auto& other : layouts) {
      if (&layout != &layouts.front() && &layout != &layouts.back() && &other != &layouts.front()) continue;
      on_first(other.ranks, world, [&](comm::Communicator& ranks) {
        models::Qwen3 model(config);
        train::TrainStep step(model, ranks, step_options_of(lesson, other));
        step.initialise(6);  // anything else
        step.restore(place);
        const auto again = save(step, "again", ranks);
        if (ranks.rank() == 0 && !same_checkpoint(place, again)) {
          const auto [name, apart] = farthest(weights_in(again), weights_in(place));
          fail("{}: saved by '{}', loaded and saved by '{}': other bytes; {} differs by {:.1e}", name_of(precision),
               layout.name, other.name, name, apart);
        }
      });
    }
  }
  if (world.rank() == 0)
    fmt::print("{}: what one of {} layouts saved, another saves the same\n", name_of(precision), layouts.size());
}

}  // namespace

int main() {
  return comm::run_job([] {
    spdlog::set_level(spdlog::level::err);
    const auto world = comm::make_communicator();
    DUJIANG_CHECK(world->size() == 4, "started on {} ranks, not on 4", world->size());
    set_thread_count(1);
    const std::unique_ptr<TempFolder> made = world->rank() == 0 ? std::make_unique<TempFolder>() : nullptr;
    const fs::path folder = train::broadcast_text(made ? made->path().string() : "", 0, *world);
    train::together(*world, [&] {
      if (world->rank() == 0) write_synthetic_data(folder);
    });
    for (const auto& [precision, moments] : {std::pair(Precision::fp32, Dtype::f32), {Precision::bf16, Dtype::bf16}}) {
      check_saved_again(folder, precision, moments, *world);
      check_changing_run(folder, precision, moments, true, *world);
    }
    check_changing_run(folder, Precision::bf16, Dtype::f32, true, *world);
    check_changing_run(folder, Precision::fp32, Dtype::f32, false, *world);
    world->barrier(default_stream({})).wait_host();  // before the folder goes
    return 0;
  });
}
