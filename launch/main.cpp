// dujiang: one command, a file per subcommand beside this one.

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>

#include "comm/bootstrap.h"
#include "launch/command.h"

int main(int argc, char** argv) {
  using namespace dujiang::launch;
  // stdout is for results.
  spdlog::set_default_logger(spdlog::stderr_color_mt("dujiang"));
  spdlog::set_pattern("%H:%M:%S %v");
  CLI::App app{"Dujiang trains language models on Chinese text: raw text in, a Hugging Face model out."};
  app.name("dujiang");
  app.require_subcommand(1);
  app.set_version_flag("--version", DUJIANG_VERSION);
  app.failure_message([](const CLI::App* command, const CLI::Error& error) {
    return std::string("dujiang: ") + error.what() + "\nSee: " + command->get_name() + " --help\n";
  });
  app.footer(
      "Exit status: 0 done, 2 the input is at fault, 1 anything else.\n"
      "Example:\n  mpirun -n 2 dujiang train configs/quickstart.yaml");

  Action action;
  add_data(app, action);
  add_tokenizer(app, action);
  add_train(app, action);
  add_model(app, action);
  add_check(app, action);
  add_plan(app, action);
  add_bench(app, action);
  add_info(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return dujiang::comm::run_job(action);
}
