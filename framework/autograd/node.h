#pragma once
// The graph that backward walks, written as the forward pass runs.
//
// Every recorded op is a Node with a sequence number. backward() runs nodes by descending number: a node's consumers
// all have larger ones, so its gradients are complete when its turn comes, and the order is the same in every run.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "framework/tensor/tensor.h"

namespace dujiang::autograd {

struct Node;
struct Rebuild;

/// A tensor's place in the graph: an output of a node, or a leaf whose gradient is kept.
struct Meta {
  std::shared_ptr<Node> producer;    ///< null for a leaf
  int output = 0;                    ///< which output of the producer
  Tensor storage;                    ///< leaves only: where the values are now; undefined while they are nowhere
  Tensor grad;                       ///< leaves only: f32, of the tensor's shape; allocated on first use unless preset
  bool grad_written = false;         ///< leaves only: whether grad holds something to add to
  std::shared_ptr<Rebuild> rebuild;  ///< outputs only: see rebuildable()
};

/// Makes `tensor` a leaf: backward() adds to its gradient. `grad` may be preset (a view of a flat bucket, say, with
/// unit stride on its last axis).
void require_grad(Tensor& tensor, Tensor grad = {});
/// Points the leaf (this handle and everything that saved it, but no other copy) at other storage of its shape and
/// dtype, or, where `storage` is undefined, at none: the handle then keeps its shape and nothing may read it. Its
/// gradient stays.
void rebind(Tensor& leaf, const Tensor& storage);
/// Gives the leaf another buffer for its gradient, or none; it counts as empty. f32, of the leaf's shape, unit stride
/// on the last axis.
void set_gradient(const Tensor& leaf, Tensor grad);
/// The gradient of a leaf; undefined before the first backward().
Tensor grad_of(const Tensor& leaf);
/// Where to write (or add, see Gradients::Slot) a part of a leaf's gradient outside of backward().
struct Slot {
  Tensor tensor;
  bool accumulate;
};
Slot leaf_slot(const Tensor& leaf);
/// Marks the gradient as empty, without touching memory: the next backward overwrites it.
void clear_grad(const Tensor& leaf);

/// What a gradient function keeps of a tensor: its memory, but of a leaf only its place, so that a leaf's storage may
/// be taken away after the forward pass and be given back, elsewhere, before the backward.
class Saved {
 public:
  Saved() = default;
  /// The tensor, detached; of a leaf, its storage at this moment; call it once. Throws an error that names the op where
  /// a leaf has none; undefined where an undefined tensor was saved.
  Tensor get() const;

 private:
  friend Saved save(const char* op, const Tensor& tensor);
  const char* op_ = "";
  Tensor tensor_;
  std::shared_ptr<Meta> leaf_;
  std::shared_ptr<Rebuild> rebuild_;
};
[[nodiscard]] Saved save(const char* op, const Tensor& tensor);
/// Throws, as save() does, where the tensor is a leaf without storage: for ops that read it and save nothing.
void check_storage(const char* op, const Tensor& tensor);

/// From now on whoever saves `output`, a result of a recorded op, keeps `make` instead of its memory. Backward calls it
/// once for all who saved the tensor, and keeps the result until the last of them has had it. The same bits each time.
void rebuildable(const Tensor& output, std::function<Tensor()> make);

/// What a node's gradient function reads and writes.
class Gradients {
 public:
  Gradients(Node& node, std::vector<Tensor> outputs) : node_(node), outputs_(std::move(outputs)) {}

  /// The gradient of the loss in output i; undefined where nothing used that output.
  const Tensor& output(int i = 0) const { return outputs_[static_cast<std::size_t>(i)]; }
  bool needs(int input) const;
  /// Whether input is a leaf that wants a gradient: its slot is then f32.
  bool needs_leaf(int input) const;

  /// Where to write the gradient in `input`: of its shape; f32 for leaves, with unit stride on the last axis, else
  /// contiguous and of its dtype. Where `accumulate`, it already holds a part and the kernel must add.
  Slot slot(int input);
  /// Hands over a finished gradient; it is kept, added to what is there, or dropped where not needed.
  void add(int input, Tensor gradient);

 private:
  Node& node_;
  std::vector<Tensor> outputs_;
};

using Vjp = std::function<void(Gradients&)>;

struct Node {
  struct Input {
    std::shared_ptr<Meta> meta;  ///< null where no gradient is wanted
    Shape shape;
    Dtype dtype;
    Device device;
  };
  const char* name;
  std::uint64_t seq;
  std::vector<Input> inputs;
  std::vector<Tensor> output_grads;  ///< filled while backward() runs
  Vjp vjp;                           ///< holds what the forward saved; released after use
};

/// Puts `outputs` into the graph as results of `inputs`, unless recording is off or no input wants a gradient. What
/// vjp captures must be detached from the graph (save, Tensor::detached), or the graph would hold itself alive.
void record(const char* name, std::span<const Tensor> inputs, std::span<Tensor> outputs, Vjp vjp);
Tensor record(const char* name, std::initializer_list<Tensor> inputs, Tensor output, Vjp vjp);

/// Likewise, but always: a node in its own right, also where no input wants a gradient.
void record_always(const char* name, std::span<const Tensor> inputs, std::span<Tensor> outputs, Vjp vjp);

/// True when record() would record these inputs.
bool recording(std::initializer_list<Tensor> inputs);

/// True unless recording is switched off on this thread.
bool recording();

/// Switches recording on this thread on or off while one of these lives.
class SetRecording {
 public:
  explicit SetRecording(bool on);
  ~SetRecording();
  SetRecording(const SetRecording&) = delete;
  SetRecording& operator=(const SetRecording&) = delete;

 private:
  bool before_;
};
/// Recording is off while one of these lives.
class NoGrad : public SetRecording {
 public:
  NoGrad() : SetRecording(false) {}
};
/// Where `keep`, rebuildable() does nothing on this thread while one of these lives: what is saved keeps its memory.
class KeepResults {
 public:
  explicit KeepResults(bool keep);
  ~KeepResults();
  KeepResults(const KeepResults&) = delete;
  KeepResults& operator=(const KeepResults&) = delete;

 private:
  bool before_;
};

/// Adds d(root)/d(leaf) · gradient to every leaf under root. gradient: of root's shape; undefined means 1 for a root
/// of one element. The graph below root is consumed.
void backward(const Tensor& root, Tensor gradient = {});
/// Likewise for a graph within another: meeting a node numbered below `floor` is an error.
void backward_down_to(std::uint64_t floor, const Tensor& root, Tensor gradient);
/// The number that the next node on this thread gets.
std::uint64_t next_sequence_number();

}  // namespace dujiang::autograd
