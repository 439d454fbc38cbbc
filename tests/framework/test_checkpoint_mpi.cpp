// Started by mpirun: checkpoints of real processes, one of which cannot write.

#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "comm/bootstrap.h"
#include "framework/train/agreement.h"
#include "framework/train/checkpoint.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::train;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t rows = 3000, columns = 64;

// A matrix of which each rank has a share of the columns.
CheckpointContents contents_of(const comm::Communicator& world, float first) {
  nn::Parameter part;
  part.path = "w";
  part.global = {rows, columns};
  const std::int64_t share = (columns + world.size() - 1) / world.size();
  part.shape = {rows, share};
  part.layout = nn::shard(1);
  part.offset = share * world.rank();
  const Tensor elements = Tensor::zeros({part.shape.count()}, Dtype::f32);
  for (const auto& run : nn::element_runs(part, 0, elements.count()))
    for (std::int64_t i = 0; i < run.count; ++i)
      elements.data<float>()[static_cast<std::size_t>(run.local + i)] = first + static_cast<float>(run.global + i);
  CheckpointContents contents;
  contents.weights = {{"w", Dtype::f32, part.global, {piece_of(part, elements)}}};
  return contents;
}

void check_holds(const fs::path& dir, float first) {
  const Tensor whole = SafetensorsSet(dir, "model").read("w");
  for (std::int64_t i = 0; i < whole.count(); ++i)
    DUJIANG_CHECK(whole.data<float>()[static_cast<std::size_t>(i)] == first + static_cast<float>(i),
                  "{}: element {} is {}", dir.string(), i, whole.data<float>()[static_cast<std::size_t>(i)]);
}

void check_save(comm::Communicator& world) {
  const std::unique_ptr<test::TempFolder> made = world.rank() == 0 ? std::make_unique<test::TempFolder>() : nullptr;
  const fs::path root = broadcast_text(made ? made->path().string() : "", 0, world);
  check_holds(save_checkpoint(root, 1, contents_of(world, 1), 1, world), 1);

  // The last rank's files must not grow beyond a part of what rank 0 has reserved: its write fails in the middle.
  const int last = world.size() - 1;
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{400'000, before.rlim_max};
  if (world.rank() == last) ::setrlimit(RLIMIT_FSIZE, &small);
  std::string told = "nothing";
  try {
    save_checkpoint(root, 2, contents_of(world, 2), 1, world);
  } catch (const UserError& e) {
    told = e.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  const std::string file = (root / ".step-000002.tmp/model.safetensors").string();
  const std::string expected =
      (last == 0 ? "" : fmt::format("rank {}: ", last)) + file + ": cannot be written: File too large";
  DUJIANG_CHECK(told.starts_with(expected), "rank {} was told: {}; expected: {}", world.rank(), told, expected);
  together(world, [&] {
    check_holds(root / "step-000001", 1);
    DUJIANG_CHECK(std::distance(fs::directory_iterator(root), {}) == 1, "{}: something is left", root.string());
  });

  // What failed once goes well the next time.
  check_holds(save_checkpoint(root, 2, contents_of(world, 2), 1, world), 2);
  world.barrier(default_stream({})).wait_host();  // before rank 0 removes the folder
}

}  // namespace

int main() {
  return comm::run_job([] {
    const auto world = comm::make_communicator();
    check_save(*world);
    return 0;
  });
}
