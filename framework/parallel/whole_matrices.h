#pragma once
// Brings matrices that lie in pieces over the ranks of dp and tp together, each whole on one rank, its owner, and what
// the owner made of them back to everyone who holds a piece. For optimizers whose update isn't elementwise.

#include <functional>
#include <string_view>
#include <vector>

#include "framework/parallel/data_parallel.h"
#include "framework/parallel/mesh.h"

namespace dujiang::parallel {

class WholeMatrices {
 public:
  struct Matrix {
    const nn::Parameter* parameter;          ///< of rank 2
    std::size_t bucket;                      ///< DataParallel's
    std::int64_t offset;                     ///< of the part held here, in the bucket
    double cost;                             ///< of the owner's work, in any unit
    int owner = 0;                           ///< rank in the mesh's world
    std::vector<std::int64_t> offsets = {};  ///< where the parts of the ranks along tp begin, along layout.axis
  };
  /// Elements [first, first + count) of the part of a matrix that is held here.
  struct Cut {
    const Matrix* matrix;
    std::int64_t first, count;
  };
  /// Some buckets whose matrices are worked on at a time: neighbours, of which together there are at least as many as
  /// ranks where the model has so many.
  struct Round {
    std::size_t bucket, bucket_end;  ///< DataParallel's
    std::size_t first, end;          ///< matrices()
  };

  /// Those matrices of the buckets' trainable parameters that `cost_of` gives a cost (above 0). Owners are the same on
  /// every rank; in each round they share the cost as evenly as whole matrices can be. Collective over the mesh, which
  /// must outlive this as must `data_parallel`. `dtype` is that of what is moved and worked on; `user` names, in
  /// messages, what needs this.
  WholeMatrices(const DataParallel& data_parallel, const Mesh& mesh, Dtype dtype,
                const std::function<double(const nn::Parameter&)>& cost_of, std::string_view user);

  const std::vector<Matrix>& matrices() const { return matrices_; }
  const std::vector<Round>& rounds() const { return rounds_; }

  /// Writes what is held here of a matrix into `to` [cut.count].
  using Read = std::function<void(const Cut& cut, const Tensor& to)>;
  /// The owner's: overwrites the whole matrix [global], contiguous.
  using Work = std::function<void(const Matrix& matrix, const Tensor& whole)>;
  /// Takes the result for what is held here, [cut.count].
  using Write = std::function<void(const Cut& cut, const Tensor& result)>;
  /// Two all_to_all over the mesh's world, with read() before, work() in between and write() after them. The whole has
  /// no padding; results are 0 there. Collective.
  void run(const Round& round, const Read& read, const Work& work, const Write& write) const;

 private:
  struct Place {
    int dp, tp;
  };
  Place place_of(int rank) const { return {rank / tp_size_, rank % tp_size_}; }
  void assign_owners(const Round& round);
  /// Whether the ranks along tp hold different parts.
  bool is_cut(const Matrix& matrix) const {
    return tp_size_ > 1 && matrix.parameter->layout.kind == nn::Layout::Kind::shard;
  }
  /// What a rank keeps of its part.
  Cut kept(const Matrix& matrix, int rank) const;
  /// What it sends of that: nothing where the owner has the same.
  Cut sent(const Matrix& matrix, int rank) const;
  /// The elements of a round's matrices that go from one rank to another, to their owner or back from it.
  std::int64_t collected(const Round& round, int from, int to) const;
  std::int64_t returned(const Round& round, int from, int to) const;
  /// By matrix of the round; undefined where another rank is the owner.
  std::vector<Tensor> gather(const Round& round, const Read& read) const;
  void spread(const Round& round, std::vector<Tensor> wholes, const Write& write) const;

  const DataParallel& data_parallel_;
  comm::Communicator& world_;
  int rank_, tp_size_;
  bool sharded_;  ///< over dp
  Dtype dtype_;
  std::vector<Matrix> matrices_;
  std::vector<Round> rounds_;
};

}  // namespace dujiang::parallel
