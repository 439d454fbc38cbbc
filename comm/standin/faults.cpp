#include "comm/standin/faults.h"

#include <cstdlib>
#include <regex>
#include <sstream>

#include "framework/base/check.h"

namespace dujiang::standin {

std::vector<Fault> parse_faults(const std::string& text) {
  static const std::regex form(R"((?:(\d+):)?([A-Za-z]+)@(\d+)=(?:(\d+)|async:(\d+)|(hang|block|crash|corrupt)))");
  std::vector<Fault> faults;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ';');) {
    std::smatch match;
    DUJIANG_CHECK(std::regex_match(part, match, form),
                  "stand-in: \"{}\" is no fault, expected as 1:HcclAllReduce@3=hang", part);
    Fault fault;
    if (match[1].matched) fault.rank = std::stoi(match[1]);
    fault.function = match[2];
    fault.call = std::stoi(match[3]);
    if (match[4].matched) fault.value = std::stoi(match[4]);
    if (match[5].matched) {
      fault.kind = Fault::Kind::async;
      fault.value = std::stoi(match[5]);
    }
    if (match[6] == "hang") fault.kind = Fault::Kind::hang;
    if (match[6] == "block") fault.kind = Fault::Kind::block;
    if (match[6] == "crash") fault.kind = Fault::Kind::crash;
    if (match[6] == "corrupt") fault.kind = Fault::Kind::corrupt;
    faults.push_back(fault);
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
