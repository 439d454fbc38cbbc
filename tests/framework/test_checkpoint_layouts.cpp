// Checkpoints of several ranks: which of them held what leaves no trace in the files, and what one of them cannot write
// is a failure of all.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>

#include "comm/host/thread_communicator.h"
#include "framework/base/check.h"
#include "framework/train/checkpoint.h"
#include "tests/support/messages.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::train;
namespace fs = std::filesystem;
using test::contains;
using test::message_of;

namespace {

// dp x tp ranks, tp innermost; with `ranges` each dp rank has a range of the flat state, wherever that cuts.
struct Layout {
  int dp = 1, tp = 1;
  bool ranges = false;
  int ranks() const { return dp * tp; }
};
const Layout layouts[] = {{1, 1},       {3, 1},       {3, 1, true}, {1, 2},       {1, 3},
                          {1, 4, true}, {2, 2, true}, {2, 3, true}, {5, 2, true}, {7, 1, true}};

struct Weight {
  const char* path;
  Shape global;
  int axis;  // -1: replicated
};
const Weight weights[] = {{"embed", {10, 6}, 0},  {"up", {12, 5}, 0}, {"norm", {7}, -1}, {"down", {5, 12}, 1},
                          {"mid", {2, 12, 3}, 1}, {"scalar", {}, -1}, {"bias", {12}, 0}, {"lm_head", {10, 4}, 0}};

// The part of one rank; 10 rows over 3 or 4 ranks are padded.
nn::Parameter part_of(const Weight& weight, int tp, int t) {
  nn::Parameter p;
  p.path = weight.path;
  p.global = p.shape = weight.global;
  if (weight.axis < 0 || tp == 1) return p;
  p.layout = nn::shard(weight.axis);
  p.shape[weight.axis] = (weight.global[weight.axis] + tp - 1) / tp;
  p.offset = t * p.shape[weight.axis];
  return p;
}

float value_of(const std::string& name, std::int64_t place) {
  return static_cast<float>((std::hash<std::string>()(name) % 97 + static_cast<std::size_t>(place)) % 251) / 8;
}

// A rank's parameters, and of each the elements that are this rank's to keep.
struct Holding {
  nn::Parameter parameter;
  std::int64_t first = 0;
  Tensor elements = {};  // flat
  bool written = true;
};
std::vector<Holding> holdings_of(const Layout& layout, int rank) {
  const int d = rank / layout.tp, t = rank % layout.tp;
  std::vector<Holding> all;
  std::int64_t total = 0;
  for (const auto& weight : weights) {
    all.push_back({.parameter = part_of(weight, layout.tp, t)});
    total += all.back().parameter.shape.count();
  }
  const std::int64_t begin = layout.ranges ? total * d / layout.dp : 0;
  const std::int64_t end = layout.ranges ? total * (d + 1) / layout.dp : total;
  std::int64_t at = 0;
  for (auto& holding : all) {
    const std::int64_t count = holding.parameter.shape.count();
    const std::int64_t from = std::clamp<std::int64_t>(begin - at, 0, count);
    const std::int64_t to = std::clamp<std::int64_t>(end - at, from, count);
    holding.first = from;
    holding.elements = Tensor::empty({to - from}, Dtype::f32);
    const bool sharded = holding.parameter.layout.kind == nn::Layout::Kind::shard;
    holding.written = (layout.ranges || d == 0) && (sharded || t == 0);
    at += count;
  }
  return all;
}

// What a rank lists and writes of `name` (a weight's path and a suffix).
TensorPart listed(const Holding& holding, const std::string& name, Dtype dtype) {
  TensorPart part{name, dtype, holding.parameter.global, {}};
  if (holding.written && holding.elements.count() > 0)
    part.pieces.push_back(piece_of(holding.parameter, holding.elements.to(dtype), holding.first));
  return part;
}

constexpr const char* suffixes[] = {".master", ".m"};

// The state made up: padding is NaN, which no file may hold.
void make_up(const Holding& holding, const std::string& name) {
  const auto values = holding.elements.data<float>();
  std::fill(values.begin(), values.end(), std::numeric_limits<float>::quiet_NaN());
  for (const auto& run : nn::element_runs(holding.parameter, holding.first, holding.elements.count()))
    for (std::int64_t i = 0; i < run.count; ++i)
      values[static_cast<std::size_t>(run.local - holding.first + i)] = value_of(name, run.global + i);
}

using Fill = std::function<void(const Holding& holding, const std::string& name, bool optimizer)>;

CheckpointContents contents_of(const Layout& layout, int rank, const Fill& fill) {
  CheckpointContents contents;
  contents.model.vocab_size = 10;
  contents.state = {{"seen", 1}};
  contents.max_file_bytes = 300;  // several files
  for (auto& holding : holdings_of(layout, rank)) {
    const std::string path = holding.parameter.path;
    fill(holding, path, false);
    contents.weights.push_back(listed(holding, path, Dtype::bf16));
    for (const char* suffix : suffixes) {
      holding.elements = Tensor::empty(holding.elements.shape(), Dtype::f32);
      fill(holding, path + suffix, true);
      contents.optimizer.push_back(listed(holding, path + suffix, Dtype::f32));
    }
  }
  return contents;
}
CheckpointContents made_up(const Layout& layout, int rank) {
  return contents_of(layout, rank, [](auto& holding, auto& name, bool) { make_up(holding, name); });
}

// Files by relative path.
std::map<std::string, std::string> bytes_under(const fs::path& dir) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(dir)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    all[entry.path().lexically_relative(dir)] = {std::istreambuf_iterator<char>(in), {}};
  }
  return all;
}

std::map<std::string, std::string> save_under(const Layout& layout, const fs::path& root,
                                              const std::function<CheckpointContents(int rank)>& contents) {
  comm::run_threads(layout.ranks(), [&](comm::Communicator& communicator) {
    save_checkpoint(root, 1, contents(communicator.rank()), 1, communicator);
  });
  return bytes_under(root / "step-000001");
}

std::vector<std::string> told_on(int ranks, const std::function<void(comm::Communicator&)>& body) {
  std::vector<std::string> told(static_cast<std::size_t>(ranks));
  comm::run_threads(ranks, [&](comm::Communicator& communicator) {
    try {
      body(communicator);
    } catch (const Error& e) {
      told[static_cast<std::size_t>(communicator.rank())] = e.what();
    }
  });
  return told;
}

struct Saved {
  test::TempFolder folder;
  std::map<std::string, std::string> bytes = save_under({}, folder.path(), [](int rank) { return made_up({}, rank); });
  fs::path dir = folder.path() / "step-000001";
};

}  // namespace

BOOST_AUTO_TEST_CASE(one_state_gives_the_same_bytes_whatever_layout_saves_it) {
  const Saved alone;
  BOOST_TEST(alone.bytes.size() >= 10u);  // several files of each kind
  const SafetensorsSet optimizer(alone.dir / "optimizer", "optimizer");
  for (const auto& weight : weights)
    for (const char* suffix : suffixes) {
      const auto floats = optimizer.read(weight.path + std::string(suffix)).floats();
      for (std::size_t i = 0; i < floats.size(); ++i)
        BOOST_TEST(floats[i] == value_of(weight.path + std::string(suffix), static_cast<std::int64_t>(i)));
    }
  for (const auto& layout : layouts) {
    test::TempFolder folder;
    const auto bytes = save_under(layout, folder.path(), [&](int rank) { return made_up(layout, rank); });
    BOOST_TEST((bytes == alone.bytes), "dp " << layout.dp << ", tp " << layout.tp << ", ranges " << layout.ranges);
  }
}

BOOST_AUTO_TEST_CASE(a_state_loaded_under_any_layout_and_saved_gives_the_same_bytes) {
  const Saved alone;
  for (const auto& layout : layouts) {
    test::TempFolder folder;
    std::atomic<int> padding_that_is_not_0 = 0;
    const auto bytes = save_under(layout, folder.path(), [&](int rank) {
      const SafetensorsSet model(alone.dir, "model"), optimizer(alone.dir / "optimizer", "optimizer");
      return contents_of(layout, rank, [&](const Holding& holding, const std::string& name, bool of_optimizer) {
        const auto& target = holding.elements;
        target.fill(std::numeric_limits<float>::quiet_NaN());
        read_part(of_optimizer ? optimizer : model, name, holding.parameter, target, holding.first);
        const auto runs = nn::element_runs(holding.parameter, holding.first, target.count());
        std::vector<bool> real(static_cast<std::size_t>(target.count()));
        for (const auto& run : runs)
          for (auto i = run.local; i < run.local + run.count; ++i)
            real[static_cast<std::size_t>(i - holding.first)] = true;
        for (std::size_t i = 0; i < real.size(); ++i)
          if (!real[i] && target.data<float>()[i] != 0) ++padding_that_is_not_0;
      });
    });
    BOOST_TEST_CONTEXT("dp " << layout.dp << ", tp " << layout.tp << ", ranges " << layout.ranges) {
      BOOST_TEST((bytes == alone.bytes));
      BOOST_TEST(padding_that_is_not_0 == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(elements_are_read_from_where_they_lie) {
  const Saved alone;
  const SafetensorsSet set(alone.dir, "model");
  const std::string name = "down";
  const Tensor target = Tensor::zeros({7}, Dtype::f32), stored = Tensor::zeros({7}, Dtype::bf16);
  for (const std::int64_t first : {0, 1, 13, 53}) {
    set.read_elements(name, first, target);
    set.read_elements(name, first, stored);
    for (std::int64_t i = 0; i < 7; ++i) {
      // Eighths up to 32 fit bf16.
      BOOST_TEST(target.floats()[static_cast<std::size_t>(i)] == value_of(name, first + i));
      BOOST_TEST(stored.floats()[static_cast<std::size_t>(i)] == value_of(name, first + i));
    }
  }
  BOOST_CHECK_THROW(set.read_elements(name, 54, target), Error);
  BOOST_CHECK_THROW(set.read_elements(name, -1, target), Error);
  BOOST_CHECK_THROW(set.read_elements(name, 0, Tensor::zeros({2}, Dtype::i32)), Error);
  // Long enough to be converted in pieces.
  test::TempFolder folder;
  const std::int64_t count = (std::int64_t{1} << 20) * 2 + 5;
  const Tensor longer = Tensor::empty({count}, Dtype::f32);
  for (std::int64_t i = 0; i < count; ++i) longer.data<float>()[static_cast<std::size_t>(i)] = value_of(name, i);
  write_safetensors(folder / "t.safetensors", std::vector<NamedTensor>{{"x", longer.to(Dtype::bf16)}});
  const Tensor read = Tensor::zeros({count - 2}, Dtype::f32);
  SafetensorsFile(folder / "t.safetensors").read_elements("x", 2, read);
  BOOST_TEST(std::memcmp(read.raw().data, longer.data<float>().data() + 2, read.raw().bytes()) == 0);
  // Pages beyond those that are needed are gone by now: touching one would end the process with SIGBUS.
  const SafetensorsFile shortened(folder / "t.safetensors");
  fs::resize_file(folder / "t.safetensors", std::uintmax_t{1} << 20);
  const Tensor early = Tensor::zeros({1000}, Dtype::f32);
  shortened.read_elements("x", 500'000, early);
  BOOST_TEST(early.floats()[999] == value_of(name, 500'999));
}

BOOST_AUTO_TEST_CASE(an_element_that_is_not_written_exactly_once_stops_the_save_before_it_begins) {
  const Layout layout{2, 2, true};
  const auto told = [&](const std::function<void(CheckpointContents&, int rank)>& spoil) {
    test::TempFolder folder;
    const auto messages = told_on(layout.ranks(), [&](comm::Communicator& communicator) {
      auto contents = made_up(layout, communicator.rank());
      spoil(contents, communicator.rank());
      save_checkpoint(folder.path(), 1, contents, 1, communicator);
    });
    BOOST_TEST(fs::is_empty(folder.path()));
    for (const auto& message : messages) BOOST_TEST(message == messages[0]);
    return messages[0];
  };
  // Rank 3 has columns 6 to 11 of "down", from within its third row.
  const auto runs_of_down = [](CheckpointContents & contents) -> auto& {
    return contents.weights[3].pieces.at(0).runs;
  };
  BOOST_TEST(told([&](auto& contents, int rank) {
               if (rank == 3) runs_of_down(contents).pop_back();
             }) == "tensor down [5, 12]: the ranks would write 54 of its 60 elements, some of them never");
  BOOST_TEST(told([&](auto& contents, int rank) {
               if (rank == 3) runs_of_down(contents).push_back(runs_of_down(contents)[1]);
             }) == "tensor down [5, 12]: the ranks would write 66 of its 60 elements, some of them twice");
  BOOST_TEST(told([&](auto& contents, int rank) {
               if (rank == 3) runs_of_down(contents)[1].global -= 1;
             }) == "tensor down [5, 12]: the ranks would write 60 of its 60 elements, but some twice and others never");
  // Replicated, and both tp ranks write it.
  BOOST_TEST(contains(told([&](auto& contents, int rank) {
                        contents.optimizer[4].pieces = made_up({2, 1, true}, rank / 2).optimizer[4].pieces;
                      }),
                      "tensor norm.master [7]: the ranks would write 14 of its 7 elements"));
  BOOST_TEST(contains(told([&](auto& contents, int rank) {
                        if (rank == 3) runs_of_down(contents)[2].global = 55;
                      }),
                      "rank 3: tensor down [5, 12]: a run of 6 elements"));
  BOOST_TEST(contains(told([&](auto& contents, int rank) {
                        if (rank == 1) std::swap(contents.weights[0], contents.weights[1]);
                      }),
                      "rank 1 has another list of tensors to save than rank 0"));
}

BOOST_AUTO_TEST_CASE(a_rank_that_cannot_write_is_named_to_all_and_nothing_is_left) {
  test::TempFolder folder, elsewhere;
  const Layout layout{1, 3};
  const auto before = save_under(layout, folder.path(), [&](int rank) { return made_up(layout, rank); });
  const auto refused = [&](const std::function<fs::path(int rank)>& root) {
    const auto told = told_on(3, [&](comm::Communicator& communicator) {
      const int rank = communicator.rank();
      save_checkpoint(root(rank), 2, made_up(layout, rank), 1, communicator);
    });
    for (const auto& message : told) BOOST_TEST(message == told[0]);
    BOOST_TEST(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
    BOOST_TEST((bytes_under(folder.path() / "step-000001") == before));
    return told[0];
  };
  // Rank 2 sees another file system.
  const auto apart = refused([&](int rank) { return rank == 2 ? elsewhere.path() : folder.path(); });
  BOOST_TEST(apart.starts_with("rank 2: " + elsewhere.path().string() + "/.step-000002.tmp/model-00001-of-"));
  BOOST_TEST(contains(apart, "No such file or directory; rank 0 made it: is this a file system that all ranks share?"));
  BOOST_TEST(fs::is_empty(elsewhere.path()));
  // A file is where rank 0 wants its directory.
  std::ofstream(folder.path() / "step-000001" / "taken") << "x";
  const auto taken = told_on(3, [&](comm::Communicator& communicator) {
    save_checkpoint(folder.path() / "step-000001" / "taken", 2, made_up(layout, communicator.rank()), 1, communicator);
  });
  for (const auto& message : taken) BOOST_TEST((message.starts_with("rank 0: ") && contains(message, "/taken")));
}

BOOST_AUTO_TEST_CASE(ranks_killed_at_any_time_of_a_save_leave_a_whole_checkpoint) {
  const Saved alone;
  const Layout layout{2, 2, true};
  test::TempFolder folder;
  save_under(layout, folder.path(), [&](int rank) { return made_up(layout, rank); });
  for (int i = 0; i < 15; ++i) {
    const pid_t child = ::fork();
    BOOST_REQUIRE(child >= 0);
    if (child == 0) {
      comm::run_threads(layout.ranks(), [&](comm::Communicator& communicator) {
        for (int step = 1;; ++step)
          save_checkpoint(folder.path(), step % 4, made_up(layout, communicator.rank()), 2, communicator);
      });
    }
    ::usleep(static_cast<useconds_t>(3000 + 1900 * i));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    const auto newest = newest_checkpoint(folder.path());
    BOOST_REQUIRE(newest.has_value());
    auto bytes = bytes_under(*newest);
    BOOST_TEST(bytes.erase("trainer_state.json") == 1u);
    auto expected = alone.bytes;
    expected.erase("trainer_state.json");
    BOOST_TEST((bytes == expected));
  }
}

BOOST_AUTO_TEST_CASE(a_resume_tells_which_files_of_a_checkpoint_are_missing_or_short) {
  test::TempFolder folder;
  const Layout layout{1, 2};
  const auto resumed = [&] {
    std::vector<std::string> found(2);
    const auto told = told_on(2, [&](comm::Communicator& communicator) {
      const auto dir = checkpoint_to_resume(folder.path(), communicator);
      found[static_cast<std::size_t>(communicator.rank())] = dir ? dir->filename().string() : "none";
    });
    BOOST_TEST(told[0] == told[1]);
    BOOST_TEST(found[0] == found[1]);
    return told[0] + found[0];
  };
  BOOST_TEST(resumed() == "none");
  for (const int step : {1, 2})
    comm::run_threads(2, [&](comm::Communicator& communicator) {
      save_checkpoint(folder.path(), step, made_up(layout, communicator.rank()), 2, communicator);
    });
  BOOST_TEST(resumed() == "step-000002");
  const fs::path newer = folder.path() / "step-000002";
  const auto missing = SafetensorsSet(newer / "optimizer", "optimizer").file_of("down.m").path();
  const auto shortened = SafetensorsSet(newer, "model").file_of("down").path();
  fs::remove(missing);
  const auto size = fs::file_size(shortened);
  fs::resize_file(shortened, size - 3);
  const std::vector<std::string> faults = {
      fmt::format("{}: has {} bytes, expected {}", shortened.string(), size - 3, size),
      fmt::format("{}: is missing", missing.string())};
  BOOST_TEST(checkpoint_faults(newer) == faults, boost::test_tools::per_element());
  BOOST_TEST(resumed() == "step-000001");
  fs::remove(folder.path() / "step-000001/trainer_state.json");
  const auto refused = resumed();
  BOOST_TEST(refused.starts_with("rank 0: " + folder.path().string() + ": no checkpoint is complete:\n  "));
  for (const auto& fault : faults) BOOST_TEST(contains(refused, fault));
  BOOST_TEST(contains(refused, "step-000001/trainer_state.json: cannot be read"));
}
