#pragma once
// Parameters of one block side by side in flat memory, so that one collective moves their values or gradients and the
// optimizer sweeps them in one pass. What of that memory this rank keeps is the ZeRO stage's affair (Rajbhandari et
// al. 2020).

#include <memory>
#include <optional>
#include <span>

#include "comm/communicator.h"
#include "framework/nn/module.h"
#include "framework/parallel/tree_sum.h"

namespace dujiang::parallel {

/// What ranks along dp keep of a bucket. The gradient is f32, values are of the compute dtype.
///   stage  values      gradient    optimizer state
///   0      all         all         all
///   1      all         all         own range
///   2      all         own range   own range
///   3      own range   own range   own range
/// A range of values or gradients alone is whole again for the time it is used, in memory of its own for as long.
struct BucketOptions {
  Dtype dtype = Dtype::f32;
  int zero = 0;
  bool strict = false;       ///< gradients of micro-batches are added in a binary tree
  bool reduce_each = false;  ///< gradients are reduced after every micro-batch, not after the last one
};

/// The trainable parameters in their order, each padded to a multiple of 16 elements, all of them to a multiple of 16
/// for each rank; the padding's value and gradient are zero. Frozen parameters have values of their own on every rank,
/// no gradient and no optimizer state.
class FlatBucket {
 public:
  /// Collective over `dp`, which must outlive this. Makes each parameter's value a leaf over the
  /// flat memory. Values are uninitialised but for the padding.
  FlatBucket(std::string name, std::vector<nn::Parameter*> parameters, const BucketOptions& options,
             comm::Communicator& dp);
  /// Waits for what is under way, which uses this memory; collective, unless an exception unwinds.
  ~FlatBucket();
  FlatBucket(const FlatBucket&) = delete;
  FlatBucket& operator=(const FlatBucket&) = delete;

  const std::string& name() const { return name_; }
  struct Piece {
    nn::Parameter* parameter;
    std::int64_t offset, count;  ///< elements in the flat memory, padding not counted
  };
  const std::vector<Piece>& pieces() const { return pieces_; }
  std::span<nn::Parameter* const> parameters() const { return parameters_; }
  std::int64_t count() const { return count_; }  ///< with padding; 0 when all are frozen

  /// The range whose optimizer state this rank keeps: all of it in stage 0.
  struct Range {
    std::int64_t begin, count;
  };
  Range owned() const { return owned_; }
  /// The range of rank r along dp, whatever the stage.
  Range share_of(int rank) const;
  Tensor owned_value() const { return owned_value_; }  ///< [owned().count] of the compute dtype
  Tensor owned_grad() const { return owned_grad_; }    ///< f32 [owned().count]; complete after settle()

  bool reduces_each() const { return options_.reduce_each; }

  // Values.
  /// owned_value() has changed: tells the ranks that keep all values (starts a collective).
  void publish_values();
  /// Stage 3: starts to gather the values, unless they are there or on their way.
  void fetch_values();
  /// The parameters' values may be read when it returns.
  void need_values();
  /// Stage 3: until they are needed again.
  void drop_values();

  // Gradients, for each micro-batch: open, backward, complete, reduce, settle.
  /// Gradients have a place, and are empty where they start anew.
  void open_gradients(bool first);
  /// Writes zeros where backward left no gradient (a parameter that took no part).
  void complete_gradients();
  /// Starts to sum over dp, where this micro-batch calls for it.
  void reduce_gradients(bool last);
  /// Waits for that sum and takes it in. After the last micro-batch, owned_grad() is the sum over all.
  void settle_gradients(bool last);

 private:
  bool reduces(bool last) const { return options_.reduce_each || last; }
  void point_values(const Tensor& flat);
  void point_gradients(const Tensor& flat);

  std::string name_;
  BucketOptions options_;
  comm::Communicator& dp_;
  std::vector<nn::Parameter*> parameters_;
  std::vector<Piece> pieces_;
  std::int64_t count_ = 0;
  Range owned_{0, 0};
  Tensor value_, grad_;  ///< all of them; undefined while only the owned range is there
  Tensor owned_value_, owned_grad_;
  comm::Work value_work_, grad_work_;
  TreeSum tree_;
  bool settled_first_ = false;  ///< owned_grad() holds the sum of earlier micro-batches
};

}  // namespace dujiang::parallel
