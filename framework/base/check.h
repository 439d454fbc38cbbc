#pragma once
// Errors. Every failure is one Error whose message says what was expected, what was found, and where.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace dujiang {

/// A failure of the program or of the machine: exit status 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  virtual int exit_status() const { return 1; }
};

/// A fault in what the user gave (config, text, file, layout): exit status 2.
class UserError : public Error {
 public:
  using Error::Error;
  int exit_status() const override { return 2; }
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_user(fmt::format_string<Args...> format, Args&&... args) {
  throw UserError(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace dujiang

/// Checks in release builds too. The message arguments are evaluated only on failure.
#define DUJIANG_CHECK(condition, ...)               \
  do {                                              \
    if (!(condition)) ::dujiang::fail(__VA_ARGS__); \
  } while (false)
