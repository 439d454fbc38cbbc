#include "framework/autograd/node.h"

#include <algorithm>
#include <queue>

#include "ops/elementwise.h"

namespace dujiang::autograd {
namespace {

thread_local bool recording_on = true;
thread_local bool keeping_results = false;
thread_local std::uint64_t next_seq = 0;

// sum += part, in place where nobody else looks at sum's memory.
void add_into(Tensor& sum, const Tensor& part) {
  auto& stream = default_stream(sum.device());
  if (sum.exclusive()) {
    ops::add(stream, sum, part, sum);
  } else {
    Tensor fresh = Tensor::empty_like(sum);
    ops::add(stream, sum, part, fresh);
    sum = fresh;
  }
}

Tensor& leaf_grad(Meta& meta, Shape shape, Device device) {
  if (!meta.grad.defined()) meta.grad = Tensor::empty(shape, Dtype::f32, device);
  return meta.grad;
}

void check_leaf(const char* op, const Meta& leaf) {
  DUJIANG_CHECK(leaf.storage.defined(), "{}: an input that is a leaf has no storage now: rebind it first", op);
}

}  // namespace

void require_grad(Tensor& tensor, Tensor grad) {
  auto meta = std::make_shared<Meta>();
  meta->storage = tensor.detached();
  tensor.set_meta(std::move(meta));
  set_gradient(tensor, std::move(grad));
}

void rebind(Tensor& leaf, const Tensor& storage) {
  const auto meta = leaf.meta();
  DUJIANG_CHECK(meta && !meta->producer, "rebind of {}: not a leaf", leaf.str());
  if (storage.defined()) {
    DUJIANG_CHECK(storage.shape() == leaf.shape() && storage.dtype() == leaf.dtype(),
                  "rebind of a leaf {} {} to {}: expected its shape and dtype", name_of(leaf.dtype()),
                  leaf.shape().str(), storage.str());
    meta->storage = storage.detached();
    leaf = meta->storage;
  } else {
    meta->storage = {};
    leaf = Tensor::over(nullptr, View(nullptr, leaf.dtype(), leaf.shape(), leaf.device()));
  }
  leaf.set_meta(meta);
}

void set_gradient(const Tensor& leaf, Tensor grad) {
  const auto& meta = leaf.meta();
  DUJIANG_CHECK(meta && !meta->producer, "set_gradient of {}: not a leaf", leaf.str());
  if (grad.defined()) {
    const auto& [shape, strides] = std::pair(grad.shape(), grad.raw().strides);
    const bool unit_last = shape.rank() == 0 || shape[-1] <= 1 || strides[-1] == 1;
    DUJIANG_CHECK(shape == leaf.shape() && grad.dtype() == Dtype::f32 && unit_last,
                  "gradient {} for a leaf of shape {}: expected f32 of its shape with unit stride on the last axis",
                  grad.str(), leaf.shape().str());
  }
  meta->grad = std::move(grad);
  meta->grad_written = false;
}

Tensor grad_of(const Tensor& leaf) {
  if (!leaf.meta() || !leaf.meta()->grad_written) return {};
  return leaf.meta()->grad;
}

Slot leaf_slot(const Tensor& leaf) {
  const auto& meta = leaf.meta();
  DUJIANG_CHECK(meta && !meta->producer, "leaf_slot of {}: not a leaf", leaf.str());
  return {leaf_grad(*meta, leaf.shape(), leaf.device()), std::exchange(meta->grad_written, true)};
}

void clear_grad(const Tensor& leaf) {
  if (leaf.meta()) leaf.meta()->grad_written = false;
}

struct Rebuild {
  std::function<Tensor()> make;
  Tensor made;
  int waiting = 0;  ///< who saved the tensor and hasn't had it yet
};

void rebuildable(const Tensor& output, std::function<Tensor()> make) {
  if (!output.meta() || keeping_results) return;
  output.meta()->rebuild = std::make_shared<Rebuild>();
  output.meta()->rebuild->make = std::move(make);
}

Saved save(const char* op, const Tensor& tensor) {
  Saved saved;
  saved.op_ = op;
  if (tensor.meta() && tensor.meta()->rebuild) {
    saved.rebuild_ = tensor.meta()->rebuild;
    ++saved.rebuild_->waiting;
    return saved;
  }
  if (tensor.meta() && !tensor.meta()->producer) {
    saved.leaf_ = tensor.meta();
    check_storage(op, tensor);
  } else {
    saved.tensor_ = tensor.detached();
  }
  return saved;
}

Tensor Saved::get() const {
  if (rebuild_) {
    if (!rebuild_->made.defined()) rebuild_->made = rebuild_->make();
    const Tensor made = rebuild_->made;
    if (--rebuild_->waiting == 0) rebuild_->made = {};
    return made;
  }
  if (!leaf_) return tensor_;
  check_leaf(op_, *leaf_);
  return leaf_->storage;
}

void check_storage(const char* op, const Tensor& tensor) {
  if (tensor.meta() && !tensor.meta()->producer) check_leaf(op, *tensor.meta());
}

bool Gradients::needs(int input) const {
  return node_.inputs[static_cast<std::size_t>(input)].meta != nullptr;
}

bool Gradients::needs_leaf(int input) const {
  return needs(input) && !node_.inputs[static_cast<std::size_t>(input)].meta->producer;
}

Slot Gradients::slot(int index) {
  const auto& input = node_.inputs[static_cast<std::size_t>(index)];
  DUJIANG_CHECK(input.meta != nullptr, "gradient of {}: input {} wants none", node_.name, index);
  if (!input.meta->producer) {
    Tensor& grad = leaf_grad(*input.meta, input.shape, input.device);
    return {grad, std::exchange(input.meta->grad_written, true)};
  }
  Tensor& grad = input.meta->producer->output_grads[static_cast<std::size_t>(input.meta->output)];
  const bool accumulate = grad.defined();
  if (!accumulate) {
    grad = Tensor::empty(input.shape, input.dtype, input.device);
  } else if (!grad.exclusive()) {
    grad = grad.clone();
  }
  return {grad, accumulate};
}

void Gradients::add(int index, Tensor gradient) {
  const auto& input = node_.inputs[static_cast<std::size_t>(index)];
  if (!input.meta) return;
  DUJIANG_CHECK(gradient.shape() == input.shape, "gradient of {}: input {} has shape {}, its gradient {}", node_.name,
                index, input.shape.str(), gradient.shape().str());
  if (!input.meta->producer) {
    Tensor& grad = leaf_grad(*input.meta, input.shape, input.device);
    if (std::exchange(input.meta->grad_written, true)) {
      ops::add(default_stream(grad.device()), grad, gradient.to(Dtype::f32), grad);
    } else {
      grad.copy_from(gradient);
    }
    return;
  }
  Tensor& grad = input.meta->producer->output_grads[static_cast<std::size_t>(input.meta->output)];
  if (grad.defined()) {
    add_into(grad, gradient);
  } else {
    grad = std::move(gradient);
  }
}

bool recording(std::initializer_list<Tensor> inputs) {
  return recording_on && std::any_of(inputs.begin(), inputs.end(), [](const Tensor& t) { return t.meta() != nullptr; });
}

void record(const char* name, std::span<const Tensor> inputs, std::span<Tensor> outputs, Vjp vjp) {
  const bool wanted = std::any_of(inputs.begin(), inputs.end(), [](const Tensor& t) { return t.meta() != nullptr; });
  if (recording_on && wanted) record_always(name, inputs, outputs, std::move(vjp));
}

void record_always(const char* name, std::span<const Tensor> inputs, std::span<Tensor> outputs, Vjp vjp) {
  auto node = std::make_shared<Node>();
  node->name = name;
  node->seq = next_seq++;
  for (const auto& input : inputs) node->inputs.push_back({input.meta(), input.shape(), input.dtype(), input.device()});
  node->output_grads.resize(outputs.size());
  node->vjp = std::move(vjp);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    auto meta = std::make_shared<Meta>();
    meta->producer = node;
    meta->output = static_cast<int>(i);
    outputs[i].set_meta(std::move(meta));
  }
}

Tensor record(const char* name, std::initializer_list<Tensor> inputs, Tensor output, Vjp vjp) {
  record(name, std::span(inputs.begin(), inputs.size()), std::span(&output, 1), std::move(vjp));
  return output;
}

std::uint64_t next_sequence_number() {
  return next_seq;
}

bool recording() {
  return recording_on;
}

SetRecording::SetRecording(bool on) : before_(std::exchange(recording_on, on)) {}
SetRecording::~SetRecording() {
  recording_on = before_;
}

KeepResults::KeepResults(bool keep) : before_(std::exchange(keeping_results, keep)) {}
KeepResults::~KeepResults() {
  keeping_results = before_;
}

void backward(const Tensor& root, Tensor gradient) {
  backward_down_to(0, root, std::move(gradient));
}

void backward_down_to(std::uint64_t floor, const Tensor& root, Tensor gradient) {
  const auto& meta = root.meta();
  DUJIANG_CHECK(meta && meta->producer, "backward of {}: not the result of a recorded op", root.str());
  if (!gradient.defined()) {
    DUJIANG_CHECK(root.count() == 1, "backward of {}: a root of several elements needs a gradient", root.str());
    gradient = Tensor::empty_like(root);
    gradient.fill(1.0f);
  }
  meta->producer->output_grads[static_cast<std::size_t>(meta->output)] = std::move(gradient);

  const NoGrad guard;
  const auto later = [](const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) { return a->seq < b->seq; };
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, decltype(later)> ready(later);
  ready.push(meta->producer);
  const Node* last = nullptr;
  while (!ready.empty()) {
    const std::shared_ptr<Node> node = ready.top();
    ready.pop();
    if (node.get() == last) continue;  // pushed once per consumer
    last = node.get();
    const Vjp vjp = std::exchange(node->vjp, nullptr);
    DUJIANG_CHECK(vjp, "backward through {} a second time: its graph was consumed", node->name);
    {
      // Empty slots stay: a later backward through this node finds them, and then that it was consumed.
      Gradients gradients(*node, std::exchange(node->output_grads, std::vector<Tensor>(node->output_grads.size())));
      vjp(gradients);
    }
    for (const auto& input : node->inputs) {
      if (!input.meta || !input.meta->producer) continue;
      DUJIANG_CHECK(
          input.meta->producer->seq >= floor,
          "{}, run again by recompute, takes a result of {} from outside: all that needs a gradient must come "
          "through recompute's argument",
          node->name, input.meta->producer->name);
      const auto& grads = input.meta->producer->output_grads;
      if (std::any_of(grads.begin(), grads.end(), [](const Tensor& g) { return g.defined(); }))
        ready.push(input.meta->producer);
    }
    node->inputs.clear();
  }
}

}  // namespace dujiang::autograd
