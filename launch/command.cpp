#include "launch/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "framework/base/check.h"

namespace dujiang::launch {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

CLI::App* subcommand(CLI::App& parent, const std::string& name, const std::string& description,
                     const std::string& example) {
  auto* command = parent.add_subcommand(name, description);
  command->footer("Example:\n  " + example);
  return command;
}

void Report::add_option(CLI::App& command) {
  command.add_flag("--json", json_, "One JSON object on stdout; what people read goes to stderr");
}

void Report::print(const std::string& text, const nlohmann::json& object) const {
  fmt::print(json_ ? stderr : stdout, "{}{}", text, text.empty() || text.back() == '\n' ? "" : "\n");
  // Bytes that aren't UTF-8 (a file's name) must not make the report fail.
  if (json_) fmt::print("{}\n", object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  std::fflush(stdout);
}

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1), start_(now()), due_(start_ + (terminal_ ? 0.2 : 10.0)) {}

Progress::~Progress() {
  if (open_) std::fputs("\r\x1b[K", stderr);
}

void Progress::update(const std::function<std::string()>& line) {
  const double t = now();
  if (t < due_) return;
  due_ = t + (terminal_ ? 0.2 : 10.0);
  fmt::print(stderr, "{}{}{}", terminal_ ? "\r\x1b[K" : "", line(), terminal_ ? "" : "\n");
  std::fflush(stderr);
  open_ = terminal_;
}

double Progress::seconds() const {
  return now() - start_;
}

std::string read_text(const std::string& path) {
  const auto all = [](std::istream& in) { return std::string(std::istreambuf_iterator<char>(in), {}); };
  if (path == "-") return all(std::cin);
  std::ifstream file(path, std::ios::binary);
  std::string text = all(file);
  if (!file.is_open() || file.bad()) fail_user("{}: can't be read", path);
  return text;
}

}  // namespace dujiang::launch
