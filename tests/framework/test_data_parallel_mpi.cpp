// Started by mpirun: training over real processes against the same training on one, and a whole run of the trainer.

#include <spdlog/spdlog.h>

#include <cmath>
#include <csignal>
#include <thread>

#include "comm/bootstrap.h"
#include "data/loader/loader.h"
#include "framework/base/threads.h"
#include "framework/train/trainer.h"
#include "tests/framework/batches.h"

using namespace dujiang;
using namespace dujiang::test;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t vocabulary = 420, length = 32, steps = 50;

data::LoaderConfig part_of(const comm::Communicator& communicator, std::int64_t global_batch) {
  const auto share = global_batch / communicator.size();
  return {.sequence_length = length,
          .global_batch = global_batch,
          .seed = 9,
          .first = share * communicator.rank(),
          .count = share};
}

std::vector<train::StepResult> train_steps(const fs::path& folder, comm::Communicator& communicator,
                                           std::int64_t global_batch, std::int64_t micro_batch,
                                           train::Precision precision) {
  models::Qwen3 model(tiny_model(vocabulary));
  train::TrainStep step(model, communicator, {.optimizer = adamw(), .precision = precision});
  step.initialise(5);
  data::DataLoader loader(std::make_shared<const data::Dataset>(folder, "train"), part_of(communicator, global_batch));
  data::Batch batch;
  std::vector<train::StepResult> results;
  for (std::int64_t s = 1; s <= steps; ++s) {
    loader.next(batch);
    results.push_back(step.run(batch, micro_batch, s, 3e-3));
  }
  return results;
}

void check_same_curve(const fs::path& folder, comm::Communicator& world) {
  const auto self = comm::make_self_communicator();
  for (const auto& [precision, global_batch, micro_batch, bound] : {
           // fp32 rounding: a mean over 700 tokens is summed in another order (1e-7), and so are the gradients that
           // 50 steps carry on.
           std::tuple(train::Precision::fp32, 12, 4, 1e-6),
           std::tuple(train::Precision::fp32, 24, 5, 1e-6),  // micro-batches whose last is smaller
           // bf16: gradients meet in fp32, but a weight whose master lies by a rounding boundary goes to the other
           // side.
           std::tuple(train::Precision::bf16, 12, 12, 2e-3),
       }) {
    const auto alone = train_steps(folder, *self, global_batch, global_batch, precision);
    const auto together = train_steps(folder, world, global_batch, micro_batch, precision);
    double worst = 0;
    for (std::size_t s = 0; s < alone.size(); ++s) {
      DUJIANG_CHECK(alone[s].labels == together[s].labels, "step {}: {} labels alone, {} together", s + 1,
                    alone[s].labels, together[s].labels);
      worst = std::max(worst, std::abs(together[s].loss / alone[s].loss - 1));
    }
    DUJIANG_CHECK(worst <= bound, "{}, {} ranks, global batch {}: losses differ by {:.2e}, expected at most {:.0e}",
                  train::name_of(precision), world.size(), global_batch, worst, bound);
    DUJIANG_CHECK(alone.back().loss < 0.95 * alone.front().loss, "the model does not learn: {} to {}",
                  alone.front().loss, alone.back().loss);
    if (world.rank() == 0)
      fmt::print("{} rank(s), {}, global batch {}, micro-batch {}: losses of {} steps differ by at most {:.1e}\n",
                 world.size(), train::name_of(precision), global_batch, micro_batch, steps, worst);
  }
}

/// A path that rank 0 made, on every rank.
fs::path shared_path(comm::Communicator& world, const fs::path& mine) {
  std::array<std::uint8_t, 512> text{};
  const std::string path = mine.string();
  DUJIANG_CHECK(path.size() < text.size(), "path {} is too long", path);
  std::copy(path.begin(), path.end(), text.begin());
  world.broadcast({text.data(), std::ssize(text), Dtype::u8, {}}, 0, default_stream({})).wait_host();
  return std::string(reinterpret_cast<const char*>(text.data()));
}

void check_trainer(const fs::path& folder, comm::Communicator& world) {
  const auto config_of = [&](const std::string& run) {
    auto config = tiny_config(folder, run);
    config.train.eval_every = 10;
    config.checkpoint.every = 10;
    return config;
  };
  const auto alone = config_of("alone"), straight = config_of("straight"), broken = config_of("broken");
  if (world.rank() == 0) {
    const auto self = comm::make_self_communicator();
    train::train(alone, {}, *self);
  }
  const auto whole = train::train(straight, {}, world);
  train::train(broken, {}, world);
  if (world.rank() == 0) fs::remove_all(fs::path(broken.log.dir) / "checkpoints" / "step-000020");
  world.barrier(default_stream({})).wait_host();
  const auto resumed = train::train(broken, {.resume = true}, world);
  if (world.rank() == 0) {
    DUJIANG_CHECK(same_checkpoint(whole.checkpoint, resumed.checkpoint), "the resumed run's checkpoint differs");
    for (const char* field : {"loss", "eval_loss"}) {
      const auto one = metric(alone.log.dir, field), many = metric(straight.log.dir, field);
      DUJIANG_CHECK(one.size() == many.size() && !one.empty(), "{}: {} entries alone, {} together", field, one.size(),
                    many.size());
      for (const auto& [step, value] : one)
        DUJIANG_CHECK(std::abs(many.at(step) / value - 1) < 1e-6, "step {}: {} {} alone, {} together", step, field,
                      value, many.at(step));
      DUJIANG_CHECK(metric(broken.log.dir, field) == many, "{}: the resumed run's differs", field);
    }
  }

  // A signal that reaches one rank only ends all of them after the same step.
  auto stopped = config_of("stopped");
  stopped.train.steps = 2000;
  std::jthread killer([&](const std::stop_token& stop) {
    if (world.rank() != world.size() - 1) return;
    while (!stop.stop_requested() && metric(stopped.log.dir, "loss").size() < 5)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (!stop.stop_requested()) ::kill(::getpid(), SIGUSR1);
  });
  const auto outcome = train::train(stopped, {}, world);
  DUJIANG_CHECK(outcome.stopped && outcome.step < 2000, "rank {}: not stopped by the signal, but at step {}",
                world.rank(), outcome.step);
  std::vector<std::int64_t> ends(static_cast<std::size_t>(world.size()));
  world.all_gather({&outcome.step, 1, Dtype::i64}, {ends.data(), std::ssize(ends), Dtype::i64, {}}, default_stream({}))
      .wait_host();
  for (const auto end : ends) DUJIANG_CHECK(end == outcome.step, "ranks ended at steps {} and {}", end, outcome.step);

  if (world.size() > 1) {
    auto uneven = config_of("uneven");
    uneven.train.global_batch = 12 * world.size() + 1;
    const auto message = data::user_error_of([&] { train::train(uneven, {}, world); });
    DUJIANG_CHECK(data::contains(message, "train.global_batch"), "a batch that the ranks do not divide: {}", message);
  }
}

}  // namespace

int main() {
  return comm::run_job([] {
    spdlog::set_level(spdlog::level::warn);
    const auto world = comm::make_communicator({.transport = "auto"});
    set_thread_count(1);
    const data::TempFolder scratch;
    const fs::path folder = shared_path(*world, scratch.path());
    if (world->rank() == 0) write_synthetic_data(folder);
    world->barrier(default_stream({})).wait_host();
    check_same_curve(folder / "data", *world);
    check_trainer(folder, *world);
    world->barrier(default_stream({})).wait_host();  // before the folder goes
    return 0;
  });
}
