// Started by mpirun from faults.sh: a job whose last rank misbehaves as the first argument says; the second is
// comm.timeout in seconds, the third the agreement check (off, first, always), the fourth the transport. Every rank
// says "ready" when the job is up and "done" at its orderly end.

#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "comm/bootstrap.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace std::chrono_literals;

namespace {

comm::AgreementCheck check_named(const std::string& name) {
  if (name == "off") return comm::AgreementCheck::off;
  return name == "always" ? comm::AgreementCheck::always : comm::AgreementCheck::first;
}

class Ranks {
 public:
  explicit Ranks(comm::Communicator& world) : world_(world) {}

  void all_reduce(std::int64_t count, comm::Reduce reduce = comm::Reduce::sum) {
    world_.all_reduce(buffer(count), reduce, stream_).wait_host();
  }
  void all_reduce_bf16(std::int64_t count) {
    world_.all_reduce({data_.data(), count, Dtype::bf16, {}}, comm::Reduce::sum, stream_).wait_host();
  }
  void broadcast(std::int64_t count, int root) { world_.broadcast(buffer(count), root, stream_).wait_host(); }
  void barrier() { world_.barrier(stream_).wait_host(); }
  // What every rank does until something ends it.
  void work_on() {
    for (;;) all_reduce(1 << 20);
  }

 private:
  comm::Buffer buffer(std::int64_t count) { return {data_.data(), count, Dtype::f32, {}}; }

  comm::Communicator& world_;
  Stream stream_{Device{}};
  std::vector<float> data_ = std::vector<float>(4 << 20);
};

void misbehave(const std::string& fault, Ranks& ranks, double timeout) {
  const auto late = [&](double part) { std::this_thread::sleep_for(std::chrono::duration<double>(part * timeout)); };
  if (fault == "operation") ranks.broadcast(1024, 0);
  if (fault == "size") ranks.all_reduce(1025);
  if (fault == "dtype") ranks.all_reduce_bf16(1024);
  if (fault == "reduction") ranks.all_reduce(1024, comm::Reduce::max);
  if (fault == "late") late(0.6);
  if (fault == "too_late") late(20);
  if (fault == "exit") std::_Exit(0);
  if (fault == "throw") fail("the fault of one");
  if (fault == "killed_while_computing") std::raise(SIGKILL);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string fault = argc > 1 ? argv[1] : "";
  const double timeout = argc > 2 ? std::stod(argv[2]) : 4;
  comm::Options options;
  options.timeout = std::chrono::milliseconds(static_cast<long>(timeout * 1000));
  options.check = check_named(argc > 3 ? argv[3] : "first");
  if (argc > 4) options.transport = argv[4];
  return comm::run_job([&] {
    const auto world = comm::make_communicator(options);
    Ranks ranks(*world);
    ranks.all_reduce(8);
    ranks.barrier();
    std::printf("ready\n");
    std::fflush(stdout);
    const bool culprit = world->rank() == world->size() - 1;
    if (fault == "work") ranks.work_on();
    if (culprit && fault == "return") return 0;
    if (fault == "root") {
      ranks.broadcast(1024, culprit ? 1 : 0);
    } else if (culprit && fault != "none") {
      misbehave(fault, ranks, timeout);
    }
    ranks.all_reduce(1024);
    ranks.barrier();
    std::printf("done\n");
    return 0;
  });
}
