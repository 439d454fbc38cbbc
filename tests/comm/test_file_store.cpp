#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <thread>

#include "comm/store/store.h"
#include "tests/comm/store_job.h"

using namespace dujiang;
using namespace dujiang::comm;
using namespace dujiang::comm::store_test;
using dujiang::test::says;

BOOST_AUTO_TEST_CASE(a_folder_left_by_a_killed_job_is_used_again) {
  Job job("file", 2);
  {
    Peer zero(job, 0, "stay"), one(job, 1, "stay");
    BOOST_TEST(eventually([&] { return std::filesystem::exists(job.folder() + "/key-here%2F1"); }));
  }
  BOOST_REQUIRE(std::filesystem::exists(job.folder() + "/session"));
  std::shared_ptr<Store> one;
  std::thread early([&] { one = job.join(1); });
  std::this_thread::sleep_for(100ms);
  const auto zero = job.serve();
  early.join();
  BOOST_TEST(!zero->get("here/1").has_value());
  BOOST_TEST(zero->gone().empty());
  one.reset();
}

BOOST_AUTO_TEST_CASE(the_folder_of_another_job_is_refused) {
  Job job("file", 2);
  {
    Peer(job, 0, "stay"), eventually([&] { return std::filesystem::exists(job.folder() + "/session"); });
  }
  job.address.token = "of another job";
  BOOST_CHECK_EXCEPTION(job.serve(), UserError, says(job.folder(), "another job", "remove the folder"));
  BOOST_CHECK_EXCEPTION(job.join(1), UserError, says(job.folder(), "another job"));
}

BOOST_AUTO_TEST_CASE(a_second_rank_0_and_a_dead_session_are_told) {
  Job job("file", 2);
  {
    const auto zero = job.serve();
    BOOST_CHECK_EXCEPTION(job.serve(), UserError, says("rank 0 is already there", "is RANK set twice?"));
    zero->abandon();
  }
  BOOST_CHECK_EXCEPTION(job.join(1, 2, 100ms), UserError, says("rank 0 doesn't answer"));
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_written_is_refused) {
  BOOST_CHECK_EXCEPTION(open_file_store("/proc/no/folder", "t", 0, 1, in(1s)), UserError,
                        says("/proc/no/folder", "DUJIANG_STORE"));
}
