#include "comm/standin/faults.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <sstream>
#include <string_view>
#include <utility>

#include "framework/base/check.h"

namespace dujiang::standin {

namespace {

std::optional<int> number(std::string_view text) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 0) return std::nullopt;
  return value;
}

// Whether `text` says what happens: "9", "async:21" or a word.
bool read_kind(std::string_view text, Fault& fault) {
  constexpr std::pair<std::string_view, Fault::Kind> words[] = {{"hang", Fault::Kind::hang},
                                                                {"block", Fault::Kind::block},
                                                                {"crash", Fault::Kind::crash},
                                                                {"corrupt", Fault::Kind::corrupt}};
  for (const auto& [word, kind] : words) {
    if (text == word) {
      fault.kind = kind;
      return true;
    }
  }
  constexpr std::string_view async = "async:";
  if (text.starts_with(async)) {
    fault.kind = Fault::Kind::async;
    text.remove_prefix(async.size());
  }
  fault.value = number(text).value_or(-1);
  return fault.value >= 0;
}

// [RANK:]FUNCTION@CALL=KIND
bool read(std::string_view text, Fault& fault) {
  const auto equals = text.find('='), at = text.find('@');
  if (equals == text.npos || at == text.npos || at > equals || !read_kind(text.substr(equals + 1), fault)) return false;
  fault.call = number(text.substr(at + 1, equals - at - 1)).value_or(-1);
  text = text.substr(0, at);
  if (const auto colon = text.find(':'); colon != text.npos) {
    fault.rank = number(text.substr(0, colon)).value_or(-1);
    if (fault.rank < 0) return false;
    text.remove_prefix(colon + 1);
  }
  fault.function = text;
  const auto letter = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); };
  return fault.call >= 0 && !text.empty() && std::all_of(text.begin(), text.end(), letter);
}

}  // namespace

std::vector<Fault> parse_faults(const std::string& text) {
  std::vector<Fault> faults;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ';');) {
    Fault fault;
    DUJIANG_CHECK(read(part, fault), "stand-in: \"{}\" is no fault, expected as 1:HcclAllReduce@3=hang", part);
    faults.push_back(std::move(fault));
  }
  return faults;
}

Faults::Faults(std::vector<Fault> faults) {
  const char* rank = std::getenv("RANK");
  for (Fault& fault : faults) {
    if (fault.rank < 0 || (rank != nullptr && std::to_string(fault.rank) == rank)) faults_.push_back(std::move(fault));
  }
}

std::optional<Fault> Faults::next(const std::string& function) {
  const std::lock_guard lock(mutex_);
  const int call = ++calls_[function];
  for (const Fault& fault : faults_) {
    if (fault.function == function && fault.call == call) return fault;
  }
  return std::nullopt;
}

}  // namespace dujiang::standin
