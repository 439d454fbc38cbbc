// Matrices in pieces over dp and tp, whole on their owners: whatever is cut, copied or padded.

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <mutex>
#include <set>

#include "comm/host/thread_communicator.h"
#include "framework/parallel/whole_matrices.h"

using namespace dujiang;

namespace {

/// Blocks of parameters, without a forward pass.
class Toy : public nn::Module {
 public:
  Toy(std::string path, const std::vector<Shape>& shapes) : Module(std::move(path)) {
    for (std::size_t i = 0; i < shapes.size(); ++i) add_parameter("p" + std::to_string(i), shapes[i], {});
  }

 protected:
  Tensor forward(const Tensor& x, const nn::StepContext&) override { return x; }
};
class Toys : public nn::Module {
 public:
  Toys(int blocks, const std::vector<Shape>& shapes) : Module("") {
    for (int i = 0; i < blocks; ++i) list.push_back(&add_module<Toy>("toy" + std::to_string(i), shapes));
  }
  std::vector<nn::Module*> list;

 protected:
  Tensor forward(const Tensor& x, const nn::StepContext&) override { return x; }
};

}  // namespace

BOOST_AUTO_TEST_CASE(pieces_meet_on_owners_and_results_come_back_whatever_is_cut_or_padded) {
  const std::vector<Shape> shapes = {{5, 3}, {4, 6}, {7, 2}, {2, 4}, {3}};
  for (const int zero : {0, 1, 2, 3}) {
    std::vector<std::string> worked;
    std::int64_t sent = 0;
    std::mutex mutex;
    comm::run_threads(6, [&](comm::Communicator& world) {
      const parallel::Mesh mesh(world, parallel::axis_sizes(6, 2));
      const int t = mesh.tp().rank();
      Toys model(3, shapes);
      for (auto* block : model.list) {
        const auto p = block->parameters();
        p[0]->layout = nn::shard(0);  // 5 rows as 3 and 2, and one of padding
        p[0]->shape = {3, 3};
        p[0]->offset = 3 * t;
        p[1]->layout = nn::shard(1);
        p[1]->shape = {4, 3};
        p[1]->offset = 3 * t;
        p[3]->layout = nn::shard(0);  // both hold all of it, as ranks do that share a key head
        p[3]->primary = t == 0;
      }
      parallel::DataParallel data(model, model.list, {.dtype = Dtype::bf16, .zero = zero}, mesh.dp(), nullptr);
      const auto cost = [](const nn::Parameter& p) {
        return p.global.rank() == 2 ? static_cast<double>(p.global.count()) : 0.0;
      };
      const parallel::WholeMatrices matrices(data, mesh, Dtype::f32, cost, "this test");
      const auto value = [](const parallel::WholeMatrices::Matrix& m, std::int64_t at) {
        return static_cast<float>(1000 * m.bucket) + static_cast<float>(100 * m.parameter->global[0]) +
               static_cast<float>(at);
      };
      std::int64_t written = 0, held = 0;
      BOOST_TEST(matrices.matrices().size() == 12u);
      BOOST_TEST(matrices.rounds().size() == 2u);  // four matrices in a block, so two blocks for six ranks
      for (const auto& round : matrices.rounds()) {
        matrices.run(
            round,
            [&](const auto& cut, const Tensor& to) {
              {
                const std::lock_guard lock(mutex);
                sent += cut.count;
              }
              for (const auto& run : nn::element_runs(*cut.matrix->parameter, cut.first, cut.count))
                for (std::int64_t i = 0; i < run.count; ++i)
                  to.data<float>()[static_cast<std::size_t>(run.local - cut.first + i)] =
                      value(*cut.matrix, run.global + i);
            },
            [&](const auto& matrix, const Tensor& whole) {
              bool right = whole.shape() == matrix.parameter->global && matrix.owner == world.rank();
              auto values = whole.data<float>();
              for (std::size_t i = 0; i < values.size(); ++i) {
                right = right && values[i] == value(matrix, static_cast<std::int64_t>(i));
                values[i] = -values[i];
              }
              const std::lock_guard lock(mutex);
              BOOST_TEST(right, "zero " << zero << ": " << matrix.parameter->path);
              worked.push_back(matrix.parameter->path);
            },
            [&](const auto& cut, const Tensor& result) {
              written += cut.count;
              bool right = true;
              const auto runs = nn::element_runs(*cut.matrix->parameter, cut.first, cut.count);
              std::int64_t zeros = std::count(result.data<float>().begin(), result.data<float>().end(), 0.0f);
              for (const auto& run : runs) zeros += run.count;
              right = right && zeros == cut.count;  // no value is 0, padding is
              for (const auto& run : runs)
                for (std::int64_t i = 0; i < run.count; ++i)
                  right = right && result.data<float>()[static_cast<std::size_t>(run.local - cut.first + i)] ==
                                       -value(*cut.matrix, run.global + i);
              const std::lock_guard lock(mutex);
              BOOST_TEST(right, "zero " << zero << ": " << cut.matrix->parameter->path << " on " << world.rank());
            });
        // As even as the most costly first makes it: nobody has more than the mean and the largest.
        std::vector<double> load(6, 0.0);
        double total = 0, largest = 0;
        for (std::size_t i = round.first; i < round.end; ++i) {
          const auto& m = matrices.matrices()[i];
          load[static_cast<std::size_t>(m.owner)] += m.cost;
          total += m.cost;
          largest = std::max(largest, m.cost);
        }
        const std::lock_guard lock(mutex);
        BOOST_TEST(*std::max_element(load.begin(), load.end()) <= total / 6 + largest);
      }
      for (const auto& m : matrices.matrices()) {
        const auto share = data.share_of(*m.parameter);
        held += zero > 0 ? share.count : m.parameter->shape.count();
      }
      const std::lock_guard lock(mutex);
      BOOST_TEST(written == held);
    });
    BOOST_TEST(worked.size() == 12u);  // each on one rank
    // Every element once, with padding and what both ranks along tp hold.
    BOOST_TEST(sent == 3 * (2 * 9 + 2 * 12 + 14 + 2 * 8));
    BOOST_TEST(std::set<std::string>(worked.begin(), worked.end()).size() == 12u);
  }
}
