#include "comm/hccl_environment.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <regex>
#include <string>
#include <vector>

#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

std::optional<std::string> value_of(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  return text;
}

[[noreturn]] void refuse(const char* name, const std::string& value, const std::string& expected) {
  fail_user("environment variable {} is \"{}\", expected {}", name, value, expected);
}

std::optional<std::int64_t> check_number(const char* name, std::int64_t least, std::int64_t most, const char* what) {
  const auto text = value_of(name);
  if (!text) return std::nullopt;
  std::int64_t value = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || stop != end || value < least || value > most) {
    refuse(name, *text, fmt::format("{}, a whole number from {} to {}", what, least, most));
  }
  return value;
}

void check_choice(const char* name, const std::vector<std::string>& choices, const char* listed) {
  const auto text = value_of(name);
  if (text && std::find(choices.begin(), choices.end(), *text) == choices.end()) refuse(name, *text, listed);
}

bool is_address(const std::string& text) {
  unsigned char bytes[sizeof(in6_addr)];
  return ::inet_pton(AF_INET, text.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

}  // namespace

void check_hccl_environment(std::optional<std::chrono::milliseconds> bootstrap_timeout) {
  const auto connect = check_number("HCCL_CONNECT_TIMEOUT", 120, 7200, "seconds for the devices to connect");
  if (connect && bootstrap_timeout && std::chrono::seconds(*connect) > *bootstrap_timeout) {
    fail_user(
        "environment variable HCCL_CONNECT_TIMEOUT is {} s, but comm.bootstrap_timeout would end the job after {} s: "
        "raise comm.bootstrap_timeout to at least {} s, or unset HCCL_CONNECT_TIMEOUT",
        *connect, std::chrono::duration<double>(*bootstrap_timeout).count(), *connect);
  }
  check_number("HCCL_EXEC_TIMEOUT", 0, 2147483647, "seconds of one operation (0: never)");
  check_number("HCCL_BUFFSIZE", 1, 2147483647, "MB of each of a communicator's two buffers");
  check_number("HCCL_IF_BASE_PORT", 1024, 65520, "the first of the ports that HCCL listens on");
  check_number("HCCL_WHITELIST_DISABLE", 0, 1, "whether any host may connect");
  if (value_of("HCCL_WHITELIST_DISABLE") == "0" && value_of("HCCL_WHITELIST_FILE").value_or("").empty()) {
    refuse("HCCL_WHITELIST_DISABLE", "0", "1, or HCCL_WHITELIST_FILE to name the file of the hosts allowed");
  }
  check_choice("HCCL_DETERMINISTIC", {"false", "true", "strict", "FALSE", "TRUE", "STRICT"}, "false, true or strict");
  if (const auto address = value_of("HCCL_IF_IP"); address && !is_address(*address)) {
    refuse("HCCL_IF_IP", *address, "the IPv4 or IPv6 address of one of this host's network interfaces");
  }
  if (const auto names = value_of("HCCL_SOCKET_IFNAME")) {
    // eth0,eth1 prefixes; =eth0 exact names; ^ and ^= all but these
    static const std::regex form("\\^?=?[A-Za-z0-9_.:@-]+(,[A-Za-z0-9_.:@-]+)*");
    if (!std::regex_match(*names, form)) {
      refuse("HCCL_SOCKET_IFNAME", *names, "names of network interfaces, as eth0, =eth0,eth1 or ^docker");
    }
  }
  if (const auto algorithm = value_of("HCCL_ALGO")) {
    static const std::regex level("level[0-3]:[A-Za-z0-9_-]+(;level[0-3]:[A-Za-z0-9_-]+)*");
    static const std::regex operations(
        "[a-z]+=level[0-3]:[A-Za-z0-9_-]+(;level[0-3]:[A-Za-z0-9_-]+)*"
        "(/[a-z]+=level[0-3]:[A-Za-z0-9_-]+(;level[0-3]:[A-Za-z0-9_-]+)*)*");
    if (!std::regex_match(*algorithm, level) && !std::regex_match(*algorithm, operations)) {
      refuse("HCCL_ALGO", *algorithm, "an algorithm for each level, as level0:NA;level1:ring");
    }
  }
}

}  // namespace dujiang::comm
