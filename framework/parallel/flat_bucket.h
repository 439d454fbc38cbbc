#pragma once
// Parameters of one block side by side in flat memory, so that one collective reduces their gradients and the
// optimizer sweeps them in one pass.

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "framework/nn/module.h"

namespace dujiang::parallel {

/// The bucket's trainable parameters in their order, each padded to a multiple of 16 elements; the padding's gradient
/// is zero. Frozen parameters have values of their own, no gradient and no optimizer state.
class FlatBucket {
 public:
  /// Zeroed host memory, as comm::Communicator::allocate gives it.
  using Allocate = std::function<std::shared_ptr<void>(std::size_t bytes)>;

  /// Allocates memory, that of the gradients by `allocate`, and makes each parameter's value a view of it (a leaf whose
  /// gradient is a view too). Values are uninitialised but for the padding.
  FlatBucket(std::string name, std::vector<nn::Parameter*> parameters, Dtype dtype, const Allocate& allocate);

  const std::string& name() const { return name_; }
  struct Piece {
    nn::Parameter* parameter;
    std::int64_t offset, count;  ///< elements in the flat memory, padding not counted
  };
  const std::vector<Piece>& pieces() const { return pieces_; }
  std::int64_t count() const { return value_.defined() ? value_.count() : 0; }
  const Tensor& value() const { return value_; }  ///< [count] of the compute dtype; undefined when all are frozen
  const Tensor& grad() const { return grad_; }    ///< f32 [count]

  /// The next backward overwrites all gradients.
  void clear_gradients();
  /// Writes zeros where backward left no gradient (a parameter that took no part).
  void complete_gradients();

 private:
  std::string name_;
  std::vector<Piece> pieces_;
  Tensor value_, grad_;
};

}  // namespace dujiang::parallel
