#include <unistd.h>

#include <array>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "comm/hccl/hccl_environment.h"
#include "comm/hccl/hccl_library.h"
#include "comm/hccl/rank_table.h"
#include "comm/standin/device_runtime.h"
#include "comm/standin/faults.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::comm;
namespace data = boost::unit_test::data;

namespace {

template <class Body>
std::string refusal_of(Body body) {
  try {
    body();
  } catch (const UserError& e) {
    return e.what();
  } catch (const std::exception& e) {
    return std::string("not a UserError: ") + e.what();
  }
  return "nothing was thrown";
}

void expect_in(const std::string& text, const std::string& part) {
  BOOST_TEST(text.find(part) != std::string::npos, "\"" << text << "\" has no \"" << part << "\"");
}

class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

// A table of two servers with two devices each, in which `from` is replaced by `to`.
std::string read_changed(const std::string& from, const std::string& to) {
  std::string text = R"({"status":"completed","version":"1.0","server_count":"2","server_list":[
    {"server_id":"node_0","device":[{"device_id":"0","device_ip":"10.0.0.1","rank_id":"0"},
                                    {"device_id":"1","device_ip":"10.0.0.2","device_port":"16667","rank_id":"1"}]},
    {"server_id":"node_1","device":[{"device_id":"0","device_ip":"10.0.1.1","rank_id":"2"},
                                    {"device_id":"1","device_ip":"10.0.1.2","rank_id":"3"}]}]})";
  const auto at = text.find(from);
  BOOST_REQUIRE_MESSAGE(at != std::string::npos, from);
  text.replace(at, from.size(), to);
  const auto path = std::filesystem::temp_directory_path() / fmt::format("rank_table_{}.json", ::getpid());
  std::ofstream(path) << text;
  const std::string said = refusal_of([&] {
    const RankTable table = read_rank_table(path.string());
    BOOST_TEST(table.ranks.size() == 4u);
    BOOST_TEST(table.ranks[3].server == 1);
    BOOST_TEST(table.ranks[3].device == 1);
    BOOST_TEST(table.servers[1] == "node_1");
  });
  std::filesystem::remove(path);
  if (said != "nothing was thrown") expect_in(said, path.string() + ": ");
  return said;
}

struct Change {
  const char *from, *to, *says;
};
std::ostream& operator<<(std::ostream& out, const Change& change) {
  return out << change.says;
}

const std::array changes{
    Change{"\"status\"", "\"status\"", "nothing was thrown"},
    Change{"\"completed\"", "\"initializing\"", "status is \"initializing\", expected \"completed\""},
    Change{"\"1.0\"", "1.0", "version is 1.0, expected \"1.0\""},
    Change{"\"server_count\":\"2\"", "\"server_count\":\"3\"",
           "server_count is \"3\", expected \"2\", the length of server_list"},
    Change{"\"server_count\":\"2\",", "", "server_count is missing, expected the number of servers"},
    Change{"\"server_count\":\"2\"", "\"server_count\":2",
           "server_count is 2, expected the number of servers: a string"},
    Change{"\"rank_id\":\"3\"", "\"rank_id\":3",
           "server_list[1].device[1].rank_id is 3, expected the rank's number: a string of a number"},
    Change{"\"rank_id\":\"3\"", "\"rank_id\":\"3x\"", "server_list[1].device[1].rank_id is \"3x\""},
    Change{"\"rank_id\":\"3\"", "\"rank_id\":\"-3\"", "server_list[1].device[1].rank_id is \"-3\""},
    Change{
        "\"rank_id\":\"3\"", "\"rank_id\":\"2\"",
        "server_list[1].device[1].rank_id is \"2\", expected a rank of its own, but server_list[1].device[0].rank_id"},
    Change{"\"rank_id\":\"3\"", "\"rank_id\":\"4\"", "no device has rank 3; expected the ranks 0 to 3, each once"},
    Change{"\"device_id\":\"1\",\"device_ip\":\"10.0.1.2\"", "\"device_id\":\"0\",\"device_ip\":\"10.0.1.2\"",
           "server_list[1].device[1].device_id is \"0\", expected a device of its own"},
    Change{"\"device_ip\":\"10.0.1.2\",", "",
           "server_list[1].device[1].device_ip is missing, expected the address of the device's network interface, as "
           "there are several servers"},
    Change{"10.0.1.2", "10.0.1", "server_list[1].device[1].device_ip is \"10.0.1\", expected an IPv4 or IPv6 address"},
    Change{"10.0.1.2", "10.0.0.1", "expected an address of its own, but server_list[0].device[0].device_ip has it"},
    Change{"\"16667\"", "\"70000\"", "server_list[0].device[1].device_port is \"70000\""},
    Change{"node_1", "node_0", "server_list[1].server_id is \"node_0\", expected a name of its own"},
    Change{"\"server_id\":\"node_0\",", "", "server_list[0].server_id is missing"},
    Change{"\"server_id\":\"node_0\",\"device\"", "\"server_id\":\"node_0\",\"devices\"",
           "server_list[0].device is missing"},
    Change{"}]}]}", "}]}", "the rank table is not JSON: at byte"},
};

}  // namespace

BOOST_DATA_TEST_CASE(a_wrong_rank_table_is_refused_by_file_and_field, data::make(changes), change) {
  expect_in(read_changed(change.from, change.to), change.says);
}

BOOST_AUTO_TEST_CASE(ranks_of_one_server_come_in_a_row) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("rank_table_{}.json", ::getpid());
  std::ofstream(path) << R"({"status":"completed","version":"1.0","server_count":"2","server_list":[
    {"server_id":"a","device":[{"device_id":"0","device_ip":"10.0.0.1","rank_id":"0"},
                               {"device_id":"1","device_ip":"10.0.0.2","rank_id":"2"}]},
    {"server_id":"b","device":[{"device_id":"0","device_ip":"10.0.1.1","rank_id":"1"}]}]})";
  expect_in(refusal_of([&] { read_rank_table(path.string()); }),
            "server_list[0].device[1].rank_id is \"2\", but rank 1 is on another server than the ranks of a before it");
  std::filesystem::remove(path);
}

BOOST_AUTO_TEST_CASE(one_server_needs_no_device_addresses) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("rank_table_{}.json", ::getpid());
  std::ofstream(path) << R"({"status":"completed","version":"1.0","server_count":"1","server_list":[
    {"server_id":"a","device":[{"device_id":"3","rank_id":"0"}]}]})";
  BOOST_TEST(read_rank_table(path.string()).ranks.at(0).device == 3);
  std::filesystem::remove(path);
}

BOOST_AUTO_TEST_CASE(a_rank_table_that_is_a_folder_or_empty_is_refused) {
  expect_in(refusal_of([] { read_rank_table("/"); }), "/: the rank table");
  expect_in(refusal_of([] { read_rank_table("/dev/null"); }), "/dev/null: the rank table is not JSON");
}

namespace {

const std::array variables{
    Change{"HCCL_CONNECT_TIMEOUT", "119", "a whole number from 120 to 7200"},
    Change{"HCCL_CONNECT_TIMEOUT", "7201", "a whole number from 120 to 7200"},
    Change{"HCCL_CONNECT_TIMEOUT", "", "a whole number from 120 to 7200"},
    Change{"HCCL_EXEC_TIMEOUT", "-1", "a whole number from 0 to"},
    Change{"HCCL_BUFFSIZE", "0", "a whole number from 1 to"},
    Change{"HCCL_IF_BASE_PORT", "80", "a whole number from 1024 to 65520"},
    Change{"HCCL_WHITELIST_DISABLE", "yes", "a whole number from 0 to 1"},
    Change{"HCCL_WHITELIST_DISABLE", "0", "HCCL_WHITELIST_FILE to name the file"},
    Change{"HCCL_DETERMINISTIC", "1", "false, true or strict"},
    Change{"HCCL_IF_IP", "host7", "the IPv4 or IPv6 address"},
    Change{"HCCL_SOCKET_IFNAME", "eth0 eth1", "names of network interfaces"},
    Change{"HCCL_SOCKET_IFNAME", "eth0,", "names of network interfaces"},
    Change{"HCCL_SOCKET_IFNAME", "^", "names of network interfaces"},
    Change{"HCCL_ALGO", "ring", "an algorithm for each level"},
    Change{"HCCL_ALGO", "level0:NA;level4:ring", "an algorithm for each level"},
    Change{"HCCL_ALGO", "level0:", "an algorithm for each level"},
    Change{"HCCL_ALGO", "allreduce=ring", "an algorithm for each level"},
};

}  // namespace

BOOST_DATA_TEST_CASE(a_wrong_variable_is_refused_with_its_value_and_range, data::make(variables), wrong) {
  const Variable variable(wrong.from, wrong.to);
  const std::string said = refusal_of([] { check_hccl_environment(); });
  expect_in(said, fmt::format("environment variable {} is \"{}\", expected ", wrong.from, wrong.to));
  expect_in(said, wrong.says);
}

BOOST_AUTO_TEST_CASE(right_variables_are_taken) {
  const std::vector<std::pair<const char*, const char*>> right{{"HCCL_CONNECT_TIMEOUT", "120"},
                                                               {"HCCL_EXEC_TIMEOUT", "0"},
                                                               {"HCCL_BUFFSIZE", "200"},
                                                               {"HCCL_IF_BASE_PORT", "60000"},
                                                               {"HCCL_DETERMINISTIC", "strict"},
                                                               {"HCCL_IF_IP", "fe80::1"},
                                                               {"HCCL_SOCKET_IFNAME", "=eth0,bond0.12"},
                                                               {"HCCL_ALGO", "level0:NA;level1:ring"},
                                                               {"HCCL_WHITELIST_DISABLE", "1"}};
  std::vector<std::unique_ptr<Variable>> set;
  for (const auto& [name, value] : right) set.push_back(std::make_unique<Variable>(name, value));
  BOOST_CHECK_NO_THROW(check_hccl_environment(std::chrono::seconds(120)));
  set.push_back(std::make_unique<Variable>("HCCL_ALGO", "allreduce=level0:NA;level1:ring/allgather=level1:H-D_R"));
  set.push_back(std::make_unique<Variable>("HCCL_SOCKET_IFNAME", "^=eth0"));
  BOOST_CHECK_NO_THROW(check_hccl_environment());
  expect_in(refusal_of([] { check_hccl_environment(std::chrono::milliseconds(119'500)); }),
            "HCCL_CONNECT_TIMEOUT is 120 s, but comm.bootstrap_timeout would end the job after 119.5 s");
}

BOOST_AUTO_TEST_CASE(every_code_has_a_sentence_of_its_own) {
  std::set<std::string> sentences;
  for (int code = 0; code <= 24; ++code) {
    const std::string said = hccl::describe(static_cast<hccl::HcclResult>(code));
    expect_in(said, fmt::format("({}): ", code));
    sentences.insert(said);
  }
  BOOST_TEST(sentences.size() == 25u);
  expect_in(hccl::describe(hccl::HCCL_E_TCP_CONNECT), "HCCL_SOCKET_IFNAME");
}

BOOST_AUTO_TEST_CASE(a_fault_that_is_misspelt_is_refused) {
  const auto faults = standin::parse_faults("HcclReduce@2=9;3:HcclBarrier@1=async:21");
  BOOST_REQUIRE(faults.size() == 2u);
  BOOST_TEST((faults[0].rank == -1 && faults[0].call == 2 && faults[0].value == 9));
  BOOST_TEST((faults[1].rank == 3 && faults[1].kind == standin::Fault::Kind::async && faults[1].value == 21));
  BOOST_CHECK_THROW(standin::parse_faults("HcclReduce=9"), Error);
  BOOST_CHECK_THROW(standin::parse_faults("HcclReduce@1=sleep"), Error);
}

BOOST_AUTO_TEST_CASE(a_stream_runs_its_tasks_in_order_and_stops_at_a_failure) {
  standin::HostStream stream;
  standin::HostEvent before, after;
  std::string order;
  BOOST_TEST(before.query());  // never recorded
  stream.submit([&](standin::HostStream&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    order += 'a';
    return 0;
  });
  before.record(stream);
  BOOST_TEST(before.synchronize() == 0);
  BOOST_TEST(order == "a");
  stream.submit([&](standin::HostStream&) {
    order += 'b';
    return 7;
  });
  stream.submit([&](standin::HostStream&) {
    order += 'c';
    return 0;
  });
  after.record(stream);
  BOOST_TEST(after.synchronize() == 7);
  BOOST_TEST(order == "ab");
  BOOST_TEST(stream.status() == 7);
}

BOOST_AUTO_TEST_CASE(an_event_makes_another_stream_wait_and_an_abort_ends_the_wait) {
  standin::HostStream first, second;
  standin::HostEvent event;
  std::atomic<bool> go{false}, done{false};
  first.submit([&](standin::HostStream& self) {
    while (!go && !self.aborted()) std::this_thread::yield();
    return 0;
  });
  event.record(first);
  event.wait_by(second);
  second.submit([&](standin::HostStream&) {
    done = true;
    return 0;
  });
  BOOST_TEST(!second.synchronize(std::chrono::milliseconds(30)));
  BOOST_TEST(!done.load());
  go = true;
  BOOST_TEST(second.synchronize());
  BOOST_TEST(done.load());

  done = false;
  go = false;
  first.submit([&](standin::HostStream& self) {
    while (!self.aborted()) std::this_thread::yield();
    return 5;
  });
  first.submit([&](standin::HostStream&) {
    done = true;
    return 0;
  });
  event.record(first);
  first.abort(9);
  BOOST_TEST(event.query());
  BOOST_TEST(first.query());
  BOOST_TEST(!done.load());
}

BOOST_AUTO_TEST_CASE(device_memory_knows_its_ranges) {
  standin::DeviceMemory memory(1000);
  auto* p = static_cast<char*>(memory.allocate(600));
  BOOST_REQUIRE(p != nullptr);
  BOOST_TEST(memory.contains(p, 600));
  BOOST_TEST(memory.contains(p + 599, 1));
  BOOST_TEST(!memory.contains(p + 599, 2));
  BOOST_TEST(!memory.contains(p - 1, 1));
  BOOST_TEST(memory.allocate(500) == nullptr);
  BOOST_TEST(!memory.free(p + 1));
  BOOST_TEST(memory.free(p));
  BOOST_TEST(!memory.free(p));
  BOOST_TEST(memory.in_use() == 0u);
}
