#pragma once
// What a person is told when something is refused.

#include <boost/test/unit_test.hpp>
#include <string>

#include "framework/base/check.h"

namespace dujiang::test {

/// The message of the UserError that `action` ends in.
std::string message_of(const auto& action) {
  try {
    action();
  } catch (const UserError& e) {
    return e.what();
  }
  return "no UserError";
}

/// Whether `text` holds `part`; logs both where it does not.
inline bool contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  BOOST_TEST_MESSAGE("expected: " << part << "\nin: " << text);
  return false;
}

}  // namespace dujiang::test
