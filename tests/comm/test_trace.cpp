// The trace of a rank's operations.

#include "comm/watch/trace.h"

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "comm/communicator.h"
#include "comm/host/self_communicator.h"
#include "framework/base/check.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::comm;

namespace {

constexpr Signature sum_of_8{Op::all_reduce, Dtype::f32, Reduce::sum, 0, 8};

void run(Flight& flight, std::uint64_t bytes) {
  const auto entry = flight.request(sum_of_8, bytes, std::source_location::current());
  flight.start(entry.id);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  flight.finish(entry.id);
  flight.add_exposed(entry.id, Op::all_reduce, 0.001);
}

std::vector<nlohmann::json> complete_events(const TraceLog& log) {
  std::vector<nlohmann::json> events;
  for (const auto& event : nlohmann::json::parse(log.json())) {
    if (event.at("ph") == "X") events.push_back(event);
  }
  return events;
}

}  // namespace

BOOST_AUTO_TEST_CASE(each_operation_is_an_event_with_its_time_bytes_and_place) {
  const auto log = std::make_shared<TraceLog>("unused", 3, 100);
  Flight flight("world", {0, 1, 2, 3}, 3);
  run(flight, 1);  // before the trace
  flight.keep_trace(log);
  const auto begin = std::chrono::system_clock::now();
  run(flight, 32);
  run(flight, 64);
  const auto events = complete_events(*log);
  BOOST_REQUIRE(events.size() == 2U);
  const auto& e = events[0];
  BOOST_TEST(e.at("name") == "all_reduce sum of 8 x f32");
  BOOST_TEST(e.at("pid") == 3);
  BOOST_TEST(e.at("tid") == 0);
  BOOST_TEST(e.at("dur").get<double>() >= 2000);
  BOOST_TEST(e.at("args").at("sequence") == 2);
  BOOST_TEST(e.at("args").at("bytes") == 32);
  BOOST_TEST(e.at("args").at("exposed_us").get<double>() == 1000, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(e.at("args").at("called_from").get<std::string>().starts_with("tests/comm/test_trace.cpp:"));
  const auto since = std::chrono::duration<double, std::micro>(begin.time_since_epoch()).count();
  BOOST_TEST(e.at("ts").get<double>() >= since - 100'000);  // the system's clock may be set meanwhile, but not by much
  BOOST_TEST(events[1].at("ts").get<double>() >= e.at("ts").get<double>() + e.at("dur").get<double>());
}

BOOST_AUTO_TEST_CASE(communicators_split_later_are_traced_as_threads_of_their_own) {
  const auto log = std::make_shared<TraceLog>("unused", 0, 100);
  Flight flight("world", {0, 1}, 0);
  flight.keep_trace(log);
  const auto part = flight.child(1, {0, 1});
  run(flight, 8);
  run(*part, 16);
  const auto events = complete_events(*log);
  BOOST_REQUIRE(events.size() == 2U);
  BOOST_TEST(events[0].at("tid") != events[1].at("tid"));
  const auto all = nlohmann::json::parse(log->json());
  BOOST_TEST(std::any_of(all.begin(), all.end(), [&](const auto& e) {
    return e.at("name") == "thread_name" && e.at("tid") == events[1].at("tid") &&
           e.at("args").at("name") == "world/0.1";
  }));
}

BOOST_AUTO_TEST_CASE(memory_is_bounded_and_the_newest_operations_stay) {
  const auto log = std::make_shared<TraceLog>("unused", 0, 2);
  Flight flight("world", {0}, 0);
  flight.keep_trace(log);
  for (std::uint64_t i = 1; i <= 5; ++i) run(flight, i);
  const auto events = complete_events(*log);
  BOOST_REQUIRE(events.size() == 2U);
  BOOST_TEST(events[0].at("args").at("bytes") == 4);
  BOOST_TEST(events[1].at("args").at("bytes") == 5);
}

BOOST_AUTO_TEST_CASE(a_communicators_waits_reach_its_trace) {
  const auto log = std::make_shared<TraceLog>("unused", 0, 10);
  const auto self = make_self_communicator();
  self->flight()->keep_trace(log);
  Stream stream{Device{}};
  std::vector<float> v(8);
  self->all_reduce({v.data(), 8, Dtype::f32, {}}, Reduce::sum, stream).wait_host();
  const auto events = complete_events(*log);
  BOOST_REQUIRE(events.size() == 1U);
  BOOST_TEST(events[0].at("args").at("bytes") == 32);
}

BOOST_AUTO_TEST_CASE(the_file_holds_the_events_and_a_folder_that_is_missing_is_named) {
  const dujiang::test::TempFolder folder;
  const auto path = folder.path() / "trace.json";
  const TraceLog log(path, 0, 10);
  log.save();
  BOOST_TEST(nlohmann::json::parse(std::ifstream(path)).is_array());
  const TraceLog lost(folder.path() / "none" / "trace.json", 0, 10);
  BOOST_CHECK_EXCEPTION(lost.save(), UserError, [](const UserError& e) {
    return std::string(e.what()).find("none/trace.json: cannot be written") != std::string::npos;
  });
}
