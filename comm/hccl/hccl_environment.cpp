#include "comm/hccl/hccl_environment.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
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

// Whether `text` is one or more pieces between separators, of which each is `right`.
template <class Right>
bool all_pieces(std::string_view text, char separator, const Right& right) {
  for (;;) {
    const auto end = text.find(separator);
    if (!right(text.substr(0, end))) return false;
    if (end == std::string_view::npos) return true;
    text.remove_prefix(end + 1);
  }
}

// Letters and digits, and `others`.
bool is_name(std::string_view text, std::string_view others) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           others.find(c) != std::string_view::npos;
  });
}

// "eth0,eth1" are prefixes, "=eth0" exact names, "^" and "^=" all but these.
bool is_interfaces(std::string_view text) {
  if (text.starts_with('^')) text.remove_prefix(1);
  if (text.starts_with('=')) text.remove_prefix(1);
  return all_pieces(text, ',', [](std::string_view name) { return is_name(name, "_.:@-"); });
}

// "level0:NA;level1:ring"
bool is_levels(std::string_view text) {
  constexpr std::string_view level = "level0:";
  return all_pieces(text, ';', [&](std::string_view piece) {
    return piece.size() > level.size() && piece.starts_with("level") && piece[5] >= '0' && piece[5] <= '3' &&
           piece[6] == ':' && is_name(piece.substr(level.size()), "_-");
  });
}

// The same for each operation: "allreduce=level0:NA/allgather=level0:ring".
bool is_algorithms(std::string_view text) {
  return is_levels(text) || all_pieces(text, '/', [](std::string_view piece) {
           const auto equals = piece.find('=');
           return equals != std::string_view::npos && is_name(piece.substr(0, equals), "") &&
                  is_levels(piece.substr(equals + 1));
         });
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
  if (const auto names = value_of("HCCL_SOCKET_IFNAME"); names && !is_interfaces(*names)) {
    refuse("HCCL_SOCKET_IFNAME", *names, "names of network interfaces, as eth0, =eth0,eth1 or ^docker");
  }
  if (const auto algorithm = value_of("HCCL_ALGO"); algorithm && !is_algorithms(*algorithm)) {
    refuse("HCCL_ALGO", *algorithm, "an algorithm for each level, as level0:NA;level1:ring");
  }
}

}  // namespace dujiang::comm
