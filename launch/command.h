#pragma once
// What the subcommands share: how they enter the command line and how they report.

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace CLI {
class App;
}
namespace dujiang::data {
class Tokenizer;
}

namespace dujiang::launch {

/// What the command line chose: returns the exit status; throws as framework/base/check.h says.
using Action = std::function<int()>;

/// Each adds its subcommand; when that is chosen, it stores what to do in `action`.
void add_data(CLI::App& app, Action& action);
void add_tokenizer(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_model(CLI::App& app, Action& action);
void add_check(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_info(CLI::App& app, Action& action);

/// A subcommand whose --help ends with an example.
CLI::App* subcommand(CLI::App& parent, const std::string& name, const std::string& description,
                     const std::string& example);

/// --json of one subcommand.
class Report {
 public:
  void add_option(CLI::App& command);
  bool json() const { return json_; }
  /// With --json the object on stdout and the text on stderr, else the text on stdout.
  void print(const std::string& text, const nlohmann::json& object) const;

 private:
  bool json_ = false;
};

/// A line of progress on stderr: rewritten in place on a terminal, else one every ten seconds.
class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Cheap when called often: `line` is asked for only when one is due.
  void update(const std::function<std::string()>& line);
  /// Seconds since construction.
  double seconds() const;

 private:
  bool terminal_;
  bool open_ = false;  // an unfinished line stands on the terminal
  double start_, due_;
};

/// The directory's tokenizer; what a user should know of it (that it normalises text, say) goes to stderr.
std::unique_ptr<data::Tokenizer> open_tokenizer(const std::string& dir);

/// All of a file; "-" is stdin. UserError when it can't be read.
std::string read_text(const std::string& path);

}  // namespace dujiang::launch
