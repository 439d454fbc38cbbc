#include <algorithm>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <map>

#include "comm/bootstrap.h"
#include "framework/base/check.h"
#include "tests/support/messages.h"

extern char** environ;

namespace bootstrap_test {

using namespace dujiang;
using namespace dujiang::comm;
using test::contains;
using test::message_of;

using Variables = std::map<std::string, std::string>;

// Nothing of a launcher's, then these.
void set_environment(const Variables& variables) {
  std::vector<std::string> old;
  for (char** v = environ; *v != nullptr; ++v) {
    const std::string name(*v, std::find(*v, *v + std::string_view(*v).size(), '='));
    for (const char* prefix : {"OMPI_", "PMI", "SLURM_", "MPI_", "DUJIANG_", "MASTER_", "LOCAL_"}) {
      if (name.starts_with(prefix)) old.push_back(name);
    }
    if (name == "RANK" || name == "WORLD_SIZE") old.push_back(name);
  }
  for (const auto& name : old) unsetenv(name.c_str());
  for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
}

Launch launch_of(const Variables& variables) {
  set_environment(variables);
  return detect_launch();
}

std::string refusal_of(const Variables& variables) {
  set_environment(variables);
  return message_of([] { detect_launch(); });
}

Variables with(Variables some, const Variables& more) {
  for (const auto& [name, value] : more) some[name] = value;
  return some;
}

const Variables mpirun{{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}};
const Variables srun{{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "3"}, {"SLURM_STEP_NUM_TASKS", "4"}};
const Variables pmi{{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}};
const Variables plain{{"RANK", "3"}, {"WORLD_SIZE", "4"}};
const Variables tcp{{"MASTER_ADDR", "node1"}, {"MASTER_PORT", "29500"}};

void check(const Launch& launch, const std::string& launcher, bool mpi) {
  BOOST_TEST(launch.launcher == launcher);
  BOOST_TEST(launch.mpi == mpi);
  BOOST_TEST(launch.rank == 3);
  BOOST_TEST(launch.size == 4);
  BOOST_TEST(!launch.token.empty());
  BOOST_TEST(launch.token.size() <= 64U);
}

}  // namespace bootstrap_test

using namespace bootstrap_test;

BOOST_AUTO_TEST_CASE(every_launcher_is_recognised) {
  check(launch_of(mpirun), "mpirun", true);
  check(launch_of(with(srun, {{"PMIX_RANK", "3"}})), "srun", true);
  check(launch_of(with(srun, tcp)), "srun", false);
  check(launch_of(with(pmi, tcp)), "pmi", false);
  check(launch_of(with(plain, tcp)), "environment", false);
  check(launch_of({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "4"}, {"PMIX_RANK", "3"}}), "srun",
        true);
  const auto pmix = launch_of({{"PMIX_RANK", "3"}});
  BOOST_TEST((pmix.launcher == "mpirun" && pmix.mpi && pmix.rank == 3 && pmix.size == 0));
}

BOOST_AUTO_TEST_CASE(a_process_alone_has_no_launcher) {
  for (const auto& variables : {Variables{}, Variables{{"WORLD_SIZE", "1"}}, Variables{{"RANK", ""}}, tcp,
                                Variables{{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}},
                                Variables{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}}) {
    const auto launch = launch_of(variables);
    BOOST_TEST((launch.launcher.empty() && launch.rank == 0 && launch.size == 1 && !launch.mpi));
    BOOST_TEST((make_communicator()->transport() == "self"));
  }
}

BOOST_AUTO_TEST_CASE(the_place_on_the_host_is_read) {
  const auto place = [](const Variables& variables) {
    const auto launch = launch_of(variables);
    return std::pair(launch.local_rank, launch.local_size);
  };
  BOOST_TEST((place(with(mpirun, {{"OMPI_COMM_WORLD_LOCAL_RANK", "1"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}})) ==
              std::pair(1, 2)));
  const auto steps = with(with(srun, tcp), {{"SLURM_LOCALID", "0"}, {"SLURM_STEP_TASKS_PER_NODE", "1(x2),2"}});
  BOOST_TEST((place(with(steps, {{"SLURM_NODEID", "2"}, {"SLURM_LOCALID", "1"}})) == std::pair(1, 2)));
  BOOST_TEST((place(with(steps, {{"SLURM_NODEID", "1"}})) == std::pair(0, 1)));
  BOOST_TEST((place(with(with(plain, tcp), {{"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}})) == std::pair(1, 2)));
  BOOST_TEST((place(with(plain, tcp)) == std::pair(0, 1)));
  BOOST_TEST(contains(refusal_of(with(with(plain, tcp), {{"LOCAL_RANK", "2"}, {"LOCAL_WORLD_SIZE", "2"}})),
                      "LOCAL_RANK is 2, but LOCAL_WORLD_SIZE says 2 ranks on this host: expected 0 to 1"));
}

BOOST_AUTO_TEST_CASE(where_the_ranks_meet_is_read) {
  const auto launch = launch_of(with(plain, tcp));
  BOOST_REQUIRE(launch.store.has_value());
  BOOST_TEST((launch.store->hosts == std::vector<std::string>{"node1"}));
  BOOST_TEST(launch.store->port == 29500);
  BOOST_TEST(launch.store->token == launch.token);
  const auto folder = launch_of(with(with(plain, tcp), {{"DUJIANG_STORE", "/shared/job"}}));
  BOOST_TEST(folder.store_folder == "/shared/job");
  BOOST_TEST(!folder.store.has_value());
  BOOST_TEST(!launch_of(with(mpirun, {{"MASTER_PORT", "x"}})).store.has_value());  // MPI tells
}

BOOST_AUTO_TEST_CASE(the_token_tells_jobs_apart_and_not_ranks) {
  const auto token = [](const Variables& variables) { return launch_of(with(tcp, variables)).token; };
  const auto base = with(srun, {{"SLURM_JOB_ID", "7"}});
  BOOST_TEST(token(base) == token(with(base, {{"SLURM_PROCID", "1"}, {"SLURM_LOCALID", "1"}})));
  BOOST_TEST(token(base) != token(with(base, {{"SLURM_JOB_ID", "8"}})));
  BOOST_TEST(token(base) != token(with(base, {{"SLURM_STEP_ID", "1"}})));
  BOOST_TEST(token(plain) != token(with(plain, {{"MASTER_PORT", "29501"}})));
  BOOST_TEST(token(plain) == token(with(plain, {{"RANK", "0"}, {"WORLD_SIZE", "5"}, {"MASTER_ADDR", "localhost"}})));
  BOOST_TEST(token(with(plain, {{"DUJIANG_JOB_TOKEN", "given"}})) == "given");
  BOOST_TEST(contains(refusal_of(with(with(plain, tcp), {{"DUJIANG_JOB_TOKEN", std::string(65, 'x')}})),
                      "DUJIANG_JOB_TOKEN has 65 bytes, expected at most 64"));
}

BOOST_AUTO_TEST_CASE(what_is_no_number_is_named) {
  for (const auto& [variables, name] :
       std::vector<std::pair<Variables, std::string>>{{mpirun, "OMPI_COMM_WORLD_RANK"},
                                                      {mpirun, "OMPI_COMM_WORLD_SIZE"},
                                                      {with(srun, tcp), "SLURM_PROCID"},
                                                      {with(srun, tcp), "SLURM_STEP_NUM_TASKS"},
                                                      {with(pmi, tcp), "PMI_RANK"},
                                                      {with(plain, tcp), "RANK"},
                                                      {with(plain, tcp), "WORLD_SIZE"},
                                                      {with(plain, tcp), "MASTER_PORT"},
                                                      {{}, "PMIX_RANK"},
                                                      {with(mpirun, {}), "OMPI_COMM_WORLD_LOCAL_RANK"}}) {
    for (const char* value : {"one", "-1", "1x", " 1", "99999999999"}) {
      BOOST_TEST(contains(refusal_of(with(variables, {{name, value}})),
                          fmt::format("environment variable {} is \"{}\", expected a number", name, value)));
    }
  }
}

BOOST_AUTO_TEST_CASE(contradictions_are_named) {
  BOOST_TEST(contains(refusal_of(with(with(plain, tcp), {{"RANK", "4"}})),
                      "RANK is 4, but WORLD_SIZE says 4 ranks: expected 0 to 3"));
  BOOST_TEST(contains(refusal_of(with(with(plain, tcp), {{"WORLD_SIZE", "0"}})), "WORLD_SIZE is 0"));
  BOOST_TEST(contains(refusal_of(with(mpirun, {{"OMPI_COMM_WORLD_RANK", "4"}})), "OMPI_COMM_WORLD_RANK is 4"));
  BOOST_TEST(contains(refusal_of(with(with(srun, tcp), {{"SLURM_PROCID", "4"}})), "SLURM_PROCID is 4"));
  BOOST_TEST(contains(refusal_of(with(with(pmi, tcp), {{"PMI_SIZE", "2"}})), "PMI_RANK is 3, but PMI_SIZE says 2"));
  BOOST_TEST(contains(refusal_of(with(mpirun, {{"RANK", "1"}, {"WORLD_SIZE", "4"}})),
                      "RANK is 1, but OMPI_COMM_WORLD_RANK says 3"));
  BOOST_TEST(contains(refusal_of(with(srun, {{"PMIX_RANK", "1"}})), "PMIX_RANK is 1, but SLURM_PROCID says 3"));
  BOOST_TEST(contains(refusal_of(with(with(srun, tcp), {{"WORLD_SIZE", "8"}})),
                      "WORLD_SIZE is 8, but SLURM_STEP_NUM_TASKS says 4"));
}

BOOST_AUTO_TEST_CASE(halves_are_named) {
  BOOST_TEST(contains(refusal_of({{"RANK", "0"}}), "RANK is set, but WORLD_SIZE is not"));
  BOOST_TEST(contains(refusal_of({{"WORLD_SIZE", "2"}}), "WORLD_SIZE is set, but RANK is not"));
  BOOST_TEST(contains(refusal_of({{"OMPI_COMM_WORLD_SIZE", "2"}}), "OMPI_COMM_WORLD_RANK is not"));
  BOOST_TEST(contains(refusal_of({{"PMI_SIZE", "2"}}), "PMI_RANK is not"));
  BOOST_TEST(contains(refusal_of(with(plain, {{"MASTER_ADDR", "x"}})), "MASTER_ADDR is set, but MASTER_PORT is not"));
  BOOST_TEST(contains(refusal_of(with(plain, {{"MASTER_PORT", "1"}})), "MASTER_PORT is set, but MASTER_ADDR is not"));
  BOOST_TEST(contains(refusal_of(with(with(plain, tcp), {{"MASTER_PORT", "70000"}})), "MASTER_PORT is 70000"));
}

BOOST_AUTO_TEST_CASE(several_ranks_need_a_way_to_find_one_another) {
  BOOST_TEST(contains(refusal_of(srun), "srun started 4 tasks without PMIx"));
  for (const auto& variables : {plain, pmi}) {
    BOOST_TEST(
        contains(refusal_of(variables), "not where the ranks find one another: set MASTER_ADDR and MASTER_PORT"));
  }
  BOOST_TEST(launch_of(with(srun, {{"DUJIANG_STORE", "x"}})).size == 4);
}

BOOST_AUTO_TEST_CASE(transports_that_cannot_be_are_refused) {
  const auto refused = [](const Variables& variables, const std::string& transport) {
    set_environment(variables);
    return message_of([&] { make_communicator({.transport = transport}); });
  };
  BOOST_TEST(contains(refused({}, "gloo"), "comm.transport is \"gloo\", expected auto, self, mpi, nccl or hccl"));
  BOOST_TEST(contains(refused({}, "mpi"), "this process was started alone: start the ranks with mpirun"));
  BOOST_TEST(contains(refused(with(plain, tcp), "mpi"), "RANK and WORLD_SIZE, of which MPI knows nothing"));
  BOOST_TEST(contains(refused(with(srun, tcp), "auto"), "srun started the ranks without PMIx"));
  BOOST_TEST(contains(refused(with(plain, tcp), "self"), "comm.transport is self, but environment started 4 ranks"));
}
