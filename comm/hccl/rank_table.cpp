#include "comm/hccl/rank_table.h"

#include <arpa/inet.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

using Json = nlohmann::json;

constexpr int max_ranks = 1 << 20;

// A place in the file, for messages: rank_table.json: server_list[0].device[1].rank_id
class Field {
 public:
  Field(const std::string& path, std::string name, const Json& value)
      : path_(path), name_(std::move(name)), value_(value) {}

  [[noreturn]] void refuse(const std::string& expected) const {
    std::string shown = value_.dump();
    if (shown.size() > 80) shown = shown.substr(0, 77) + "...";
    fail_user("{}: {} is {}, expected {}", path_, name_, shown, expected);
  }

  std::optional<Field> find(const char* key) const {
    if (!value_.is_object()) refuse("an object");
    const auto at = value_.find(key);
    if (at == value_.end()) return std::nullopt;
    return Field(path_, name_.empty() ? key : name_ + "." + key, *at);
  }
  Field at(const char* key, const char* expected) const {
    if (auto field = find(key)) return *field;
    fail_user("{}: {}{}{} is missing, expected {}", path_, name_, name_.empty() ? "" : ".", key, expected);
  }
  std::vector<Field> items(const std::string& expected) const {
    if (!value_.is_array() || value_.empty()) refuse(expected);
    std::vector<Field> fields;
    for (std::size_t i = 0; i < value_.size(); ++i) {
      fields.emplace_back(path_, fmt::format("{}[{}]", name_, i), value_[i]);
    }
    return fields;
  }
  std::string text(const std::string& expected) const {
    if (!value_.is_string() || value_.get_ref<const std::string&>().empty()) refuse(expected);
    return value_.get<std::string>();
  }
  int number(int least, int most, const std::string& what) const {
    const std::string expected = fmt::format("{}: a string of a number from {} to {}", what, least, most);
    const std::string digits = text(expected);
    int value = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value);
    if (error != std::errc() || stop != end || value < least || value > most) refuse(expected);
    return value;
  }
  const std::string& name() const { return name_; }

 private:
  const std::string& path_;
  std::string name_;
  const Json& value_;
};

Json parse(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_user("{}: the rank table of RANK_TABLE_FILE can't be opened: {}", path, std::strerror(errno));
  try {
    return Json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
  } catch (const std::ios_base::failure&) {
    fail_user("{}: the rank table of RANK_TABLE_FILE can't be read: is it a file?", path);
  } catch (const Json::parse_error& e) {
    fail_user("{}: the rank table is not JSON: at byte {}: {}", path, e.byte, e.what());
  }
}

bool is_address(const std::string& text) {
  unsigned char bytes[sizeof(in6_addr)];
  return ::inet_pton(AF_INET, text.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

// The devices' claims, so that a second claim can name the first.
class Claims {
 public:
  template <class Key>
  void take(const Field& field, std::map<Key, std::string>& taken, Key key, const std::string& expected) {
    const auto [first, fresh] = taken.emplace(std::move(key), field.name());
    if (!fresh) field.refuse(fmt::format("{}, but {} has it already", expected, first->second));
  }
  std::map<int, std::string> ranks;
  std::map<std::pair<int, int>, std::string> devices;
  std::map<std::string, std::string> servers, addresses;
};

void check_device(const Field& device, int server, bool several, Claims& claims,
                  std::map<int, std::pair<RankTable::Rank, std::string>>& found) {
  const Field id = device.at("device_id", "the device's number on its server");
  const int number = id.number(0, 1023, "the device's number on its server");
  claims.take(id, claims.devices, std::pair(server, number), "a device of its own");
  if (const auto ip = device.find("device_ip")) {
    const std::string address = ip->text("the address of the device's network interface");
    if (!is_address(address)) ip->refuse("an IPv4 or IPv6 address");
    claims.take(*ip, claims.addresses, address, "an address of its own");
  } else if (several) {
    (void)device.at("device_ip", "the address of the device's network interface, as there are several servers");
  }
  if (const auto port = device.find("device_port")) port->number(1, 65535, "the port of the device");
  const Field rank = device.at("rank_id", "the rank's number");
  const int r = rank.number(0, max_ranks, "the rank's number");
  claims.take(rank, claims.ranks, r, "a rank of its own");
  found[r] = {{server, number}, rank.name()};
}

}  // namespace

RankTable read_rank_table(const std::string& path) {
  const Json json = parse(path);
  const Field root(path, "", json);
  if (!json.is_object()) fail_user("{}: the rank table is no JSON object, expected one with server_list", path);
  const Field version = root.at("version", "\"1.0\"");
  if (version.text("\"1.0\"") != "1.0") version.refuse("\"1.0\"");
  const Field status = root.at("status", "\"completed\"");
  if (status.text("\"completed\"") != "completed") status.refuse("\"completed\": the table isn't ready");
  const auto servers = root.at("server_list", "the list of servers").items("a list of at least one server");
  const Field count = root.at("server_count", "the number of servers");
  if (count.number(1, max_ranks, "the number of servers") != static_cast<int>(servers.size())) {
    count.refuse(fmt::format("\"{}\", the length of server_list", servers.size()));
  }

  RankTable table;
  table.path = path;
  Claims claims;
  std::map<int, std::pair<RankTable::Rank, std::string>> found;
  for (const Field& server : servers) {
    const int index = static_cast<int>(table.servers.size());
    const Field id = server.at("server_id", "the server's name");
    table.servers.push_back(id.text("the server's name"));
    claims.take(id, claims.servers, table.servers.back(), "a name of its own");
    for (const Field& device : server.at("device", "its devices").items("a list of at least one device")) {
      check_device(device, index, servers.size() > 1, claims, found);
    }
  }
  std::set<int> left_servers;  // whose ranks have ended
  int next = 0;
  for (const auto& [rank, where] : found) {
    const auto& [entry, name] = where;
    if (rank != next) {
      fail_user("{}: {} is \"{}\", but no device has rank {}; expected the ranks 0 to {}, each once", path, name, rank,
                next, found.size() - 1);
    }
    if (!table.ranks.empty() && table.ranks.back().server != entry.server)
      left_servers.insert(table.ranks.back().server);
    if (left_servers.count(entry.server) > 0) {
      fail_user(
          "{}: {} is \"{}\", but rank {} is on another server than the ranks of {} before it; expected the ranks of "
          "one server in a row",
          path, name, rank, rank - 1, table.servers[static_cast<std::size_t>(entry.server)]);
    }
    table.ranks.push_back(entry);
    ++next;
  }
  return table;
}

}  // namespace dujiang::comm
