#include "framework/train/trainer.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "comm/bootstrap.h"
#include "framework/train/stop_signal.h"
#include "launch/command.h"

namespace dujiang::launch {
namespace {

struct TrainCommand {
  std::string config;
  std::vector<std::string> overrides;
  train::TrainOptions options;
  Report report;
};

int run(const TrainCommand& command) {
  train::hold_stop_signal();
  const auto config = train::load_config(command.config, command.overrides);
  const auto communicator = comm::make_communicator({.transport = config.comm.transport,
                                                     .timeout = config.comm.timeout,
                                                     .bootstrap_timeout = config.comm.bootstrap_timeout,
                                                     .check = config.comm.check});
  const auto outcome = train::train(config, command.options, *communicator);
  if (communicator->rank() != 0) return 0;
  command.report.print(
      fmt::format("{}: step {}, loss {:.4f}{}\nmodel: {}\n", config.name, outcome.step, outcome.loss,
                  outcome.stopped ? "; stopped by a signal, go on with --resume" : "", outcome.checkpoint.string()),
      {{"step", outcome.step},
       {"loss", outcome.loss},
       {"stopped", outcome.stopped},
       {"checkpoint", outcome.checkpoint.string()}});
  return 0;
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  auto command = std::make_shared<TrainCommand>();
  auto* training = subcommand(app, "train",
                              "Train a model as the config says, under mpirun, srun or alone. SIGUSR1 (and, without "
                              "mpirun, Ctrl-C) finishes the step, saves and ends",
                              "mpirun -n 2 dujiang train configs/quickstart.yaml train.steps=2000 --resume");
  training->add_option("CONFIG", command->config, "The YAML file")->required();
  training->add_option("OVERRIDES", command->overrides, "key.path=value, for example optimizer.lr=1e-3");
  training->add_flag("--resume", command->options.resume, "Go on from the newest complete checkpoint, if there is one");
  command->report.add_option(*training);
  training->callback([=, &action] { action = [=] { return run(*command); }; });
}

}  // namespace dujiang::launch
