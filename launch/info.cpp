#include <dnnl.h>
#include <fmt/format.h>
#include <hdf5.h>
#include <mpi.h>
#include <unicode/uversion.h>
#include <unistd.h>
#include <zstd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "comm/bootstrap.h"
#include "framework/base/threads.h"
#include "launch/command.h"
#include "ops/cpu/isa.h"

namespace dujiang::launch {
namespace {

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "unknown";
}

std::string mpi_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);  // may be called before MPI_Init
  const std::string all(text.data());
  return all.substr(0, all.find(','));
}

nlohmann::json versions() {
  const auto* dnnl = dnnl_version();
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  UVersionInfo icu;
  u_getVersion(icu);
  std::array<char, U_MAX_VERSION_STRING_LENGTH> icu_text{};
  u_versionToString(icu, icu_text.data());
  return {{"dujiang", DUJIANG_VERSION},
          {"compiler", __VERSION__},
          {"onednn", fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch)},
          {"mpi", mpi_version()},
          {"hdf5", fmt::format("{}.{}.{}", major, minor, release)},
          {"icu", icu_text.data()},
          {"sentencepiece", DUJIANG_SENTENCEPIECE_VERSION},
          {"zstd", ZSTD_versionString()}};
}

int info(const Report& report) {
  const auto launch = comm::detect_launch();
  std::vector<std::string> transports{"self", "thread", "mpi", "hccl"};
#ifdef DUJIANG_HAVE_NCCL
  transports.emplace_back("nccl");
#endif
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  const nlohmann::json object = {{"version", DUJIANG_VERSION},
                                 {"devices",
                                  {{{"name", "cpu:0"},
                                    {"processor", processor()},
                                    {"cores", std::thread::hardware_concurrency()},
                                    {"memory_gib", memory / (1 << 30)}}}},
                                 {"isa", ops::cpu::name_of(ops::cpu::isa())},
                                 {"threads", thread_count()},
                                 {"processors", omp_get_num_procs()},
                                 {"transports", transports},
                                 {"launcher", launch.launcher},
                                 {"rank", launch.rank},
                                 {"ranks", launch.size},
                                 {"versions", versions()}};

  std::string text = fmt::format(
      "dujiang {}\ndevice        cpu:0: {}, {} cores, {:.1f} GiB\ninstructions  {}\nthreads       {}, on {} processors "
      "that this process may use\n"
      "transports    {}\nstarted by    {}, rank {} of {}\n",
      DUJIANG_VERSION, processor(), std::thread::hardware_concurrency(), memory / (1 << 30),
      ops::cpu::name_of(ops::cpu::isa()), thread_count(), omp_get_num_procs(), fmt::join(transports, ", "),
      launch.launcher.empty() ? "hand" : launch.launcher, launch.rank, launch.size);
  for (const auto& [name, version] : object["versions"].items()) {
    text += fmt::format("{:<13} {}\n", name, version.get<std::string>());
  }
  report.print(text, object);
  return 0;
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  auto report = std::make_shared<Report>();
  auto* command = subcommand(app, "info", "Devices, instruction sets, transports, versions", "dujiang info --json");
  report->add_option(*command);
  command->callback([=, &action] { action = [=] { return info(*report); }; });
}

}  // namespace dujiang::launch
