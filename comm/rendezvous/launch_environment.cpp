#include "comm/rendezvous/launch_environment.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

// Unset and empty are the same: shells can't unset a variable for one command.
std::optional<std::string> text(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

bool present(const char* name) {
  return text(name).has_value();
}

std::optional<int> number(const char* name) {
  const auto value = text(name);
  if (!value) return std::nullopt;
  int result = 0;
  const auto* last = value->data() + value->size();
  const auto [end, error] = std::from_chars(value->data(), last, result);
  if (error != std::errc() || end != last || result < 0) {
    fail_user("environment variable {} is \"{}\", expected a number as the launcher sets it", name, *value);
  }
  return result;
}

int needed(const char* name, const char* because) {
  if (const auto value = number(name)) return *value;
  fail_user("environment variable {} is set, but {} is not: set both, or neither", because, name);
}

// How many tasks of a Slurm step run on a node: "2(x3),1" says 2 on each of nodes 0 to 2, and 1 on node 3.
std::optional<int> tasks_on_node(std::string_view list, int node) {
  while (!list.empty()) {
    const auto item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), item.size() + 1));
    int tasks = 0, nodes = 1;
    const auto* last = item.data() + item.size();
    const auto [end, error] = std::from_chars(item.data(), last, tasks);
    if (error != std::errc()) return std::nullopt;
    if (last - end > 2 && end[0] == '(' && end[1] == 'x') std::from_chars(end + 2, last, nodes);
    if (node < nodes) return tasks;
    node -= nodes;
  }
  return std::nullopt;
}

void set_local(Launch& launch, const char* rank_name, const char* size_name, std::optional<int> size) {
  launch.local_rank = number(rank_name).value_or(0);
  launch.local_size = size.value_or(launch.local_rank + 1);
  if (launch.local_rank >= launch.local_size) {
    fail_user("environment variable {} is {}, but {} says {} ranks on this host: expected 0 to {}", rank_name,
              launch.local_rank, size_name, launch.local_size, launch.local_size - 1);
  }
}

void check_rank(const Launch& launch, const char* rank_name, const char* size_name) {
  if (launch.size == 0) fail_user("environment variable {} is 0, expected the number of ranks", size_name);
  if (launch.rank >= launch.size) {
    fail_user("environment variable {} is {}, but {} says {} ranks: expected 0 to {}", rank_name, launch.rank,
              size_name, launch.size, launch.size - 1);
  }
}

void check_same(const char* name, const char* other, int expected) {
  const auto value = number(name);
  if (value && *value != expected) {
    fail_user("environment variable {} is {}, but {} says {}: unset the one that is left over", name, *value, other,
              expected);
  }
}

struct SlurmStep {
  int rank = 0, size = 1;
  const char* size_name = "SLURM_STEP_NUM_TASKS";
};

std::optional<SlurmStep> slurm_step() {
  if (!present("SLURM_STEP_ID") || !present("SLURM_PROCID")) return std::nullopt;
  SlurmStep step;
  step.rank = number("SLURM_PROCID").value_or(0);
  if (!present(step.size_name)) step.size_name = "SLURM_NTASKS";
  step.size = number(step.size_name).value_or(1);
  return step;
}

Launch from_mpirun() {
  Launch launch;
  launch.launcher = "mpirun";
  launch.mpi = true;
  launch.rank = needed("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
  launch.size = needed("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK");
  check_rank(launch, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
  set_local(launch, "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", number("OMPI_COMM_WORLD_LOCAL_SIZE"));
  if (present("RANK") && present("WORLD_SIZE")) {
    check_same("RANK", "OMPI_COMM_WORLD_RANK", launch.rank);
    check_same("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", launch.size);
  }
  return launch;
}

Launch from_environment(const std::optional<SlurmStep>& step) {
  Launch launch;
  launch.launcher = "environment";
  launch.rank = needed("RANK", "WORLD_SIZE");
  launch.size = needed("WORLD_SIZE", "RANK");
  check_rank(launch, "RANK", "WORLD_SIZE");
  set_local(launch, "LOCAL_RANK", "LOCAL_WORLD_SIZE", number("LOCAL_WORLD_SIZE"));
  // A script may well set these from Slurm's; another launcher below srun sets its own, of which MPI knows nothing.
  launch.mpi = present("PMIX_RANK") && step && step->rank == launch.rank && step->size == launch.size;
  return launch;
}

Launch from_srun(const SlurmStep& step) {
  Launch launch;
  launch.launcher = "srun";
  launch.mpi = present("PMIX_RANK");
  launch.rank = step.rank;
  launch.size = step.size;
  check_rank(launch, "SLURM_PROCID", step.size_name);
  check_same("PMIX_RANK", "SLURM_PROCID", step.rank);
  check_same("WORLD_SIZE", step.size_name, step.size);
  const auto tasks = text("SLURM_STEP_TASKS_PER_NODE");
  set_local(launch, "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE",
            tasks ? tasks_on_node(*tasks, number("SLURM_NODEID").value_or(0)) : std::nullopt);
  return launch;
}

Launch from_pmi() {
  Launch launch;
  launch.launcher = "pmi";
  launch.rank = needed("PMI_RANK", "PMI_SIZE");
  launch.size = needed("PMI_SIZE", "PMI_RANK");
  check_rank(launch, "PMI_RANK", "PMI_SIZE");
  set_local(launch, "MPI_LOCALRANKID", "MPI_LOCALNRANKS", number("MPI_LOCALNRANKS"));
  return launch;
}

Launch ranks() {
  const auto step = slurm_step();
  if (present("OMPI_COMM_WORLD_SIZE") || present("OMPI_COMM_WORLD_RANK")) return from_mpirun();
  const bool other = step || present("PMIX_RANK") || present("PMI_RANK");
  if (present("RANK") ? !other || present("WORLD_SIZE") : !other && number("WORLD_SIZE").value_or(1) > 1) {
    return from_environment(step);
  }
  if (step && (step->size > 1 || present("PMIX_RANK"))) return from_srun(*step);
  if (present("PMIX_RANK")) {
    Launch launch;
    launch.launcher = "mpirun";
    launch.mpi = true;
    launch.rank = number("PMIX_RANK").value_or(0);
    launch.size = 0;
    return launch;
  }
  if (!step && (present("PMI_RANK") || present("PMI_SIZE"))) return from_pmi();
  return {};
}

void find_store(Launch& launch) {
  launch.store_folder = text("DUJIANG_STORE").value_or("");
  const auto host = text("MASTER_ADDR");
  if (!launch.store_folder.empty() || (!host && !present("MASTER_PORT"))) return;
  if (!host) fail_user("environment variable MASTER_PORT is set, but MASTER_ADDR is not: set both, or neither");
  const int port = needed("MASTER_PORT", "MASTER_ADDR");
  if (port < 1 || port > 65535) fail_user("environment variable MASTER_PORT is {}, expected 1 to 65535", port);
  launch.store = StoreAddress{{*host}, port, {}};
}

// Tells the stores of different jobs apart. No secret: who needs one sets DUJIANG_JOB_TOKEN.
std::string token_of(const Launch& launch) {
  if (const auto given = text("DUJIANG_JOB_TOKEN")) {
    if (given->size() > 64) {
      fail_user("environment variable DUJIANG_JOB_TOKEN has {} bytes, expected at most 64", given->size());
    }
    return *given;
  }
  // Neither the size, for a wrong one deserves a message of its own, nor MASTER_ADDR, which may have several names.
  std::string job = fmt::format("{}/{}/{}", launch.launcher, getuid(), launch.store ? launch.store->port : 0);
  for (const char* name : {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "PMIX_NAMESPACE",
                           "OMPI_MCA_ess_base_jobid", "TORCHELASTIC_RUN_ID"}) {
    job += fmt::format("/{}", text(name).value_or(""));
  }
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (const char c : job) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return fmt::format("{:016x}", hash);
}

}  // namespace

Launch detect_launch() {
  Launch launch = ranks();
  if (launch.launcher.empty()) return launch;
  if (!launch.mpi) find_store(launch);
  launch.token = token_of(launch);
  if (launch.store) launch.store->token = launch.token;
  if (launch.mpi || launch.size == 1 || launch.store || !launch.store_folder.empty()) return launch;
  constexpr auto how =
      "MASTER_ADDR and MASTER_PORT to a machine and a free port of rank 0, or DUJIANG_STORE to a folder "
      "that all share";
  if (launch.launcher == "srun") {
    fail_user(
        "srun started {} tasks without PMIx, so they can't find one another: use srun --mpi=pmix, or mpirun, or "
        "set {}",
        launch.size, how);
  }
  fail_user("the environment says that this is rank {} of {}, but not where the ranks find one another: set {}",
            launch.rank, launch.size, how);
}

}  // namespace dujiang::comm
