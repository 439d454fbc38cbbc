#include "framework/parallel/flat_bucket.h"

#include <exception>
#include "framework/base/rehearsal.h"

#include "ops/elementwise.h"

namespace dujiang::parallel {
namespace {

constexpr std::int64_t alignment = 16;  // elements: a cache line of f32

// [count] over zeroed memory that the ranks reach fastest. Collective.
Tensor allocate_for(comm::Communicator& ranks, std::int64_t count, Dtype dtype) {
  if (ranks.size() == 1) return Tensor::zeros({count}, dtype, ranks.device());
  auto memory = ranks.allocate(static_cast<std::size_t>(count) * size_of(dtype));
  const View view(memory.get(), dtype, {count}, ranks.device());
  return Tensor::over(std::move(memory), view);
}

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace

FlatBucket::FlatBucket(std::string name, std::vector<nn::Parameter*> parameters, const BucketOptions& options,
                       comm::Communicator& dp)
    : name_(std::move(name)), options_(options), dp_(dp) {
  const MemoryScope of_values(MemoryUse::parameters);
  std::int64_t total = 0;
  for (auto* p : parameters) {
    if (!p->trainable) {
      p->value = Tensor::empty(p->shape, options_.dtype, dp.device());
      continue;
    }
    parameters_.push_back(p);
    pieces_.push_back({p, total, p->shape.count()});
    total += round_up(p->shape.count(), alignment);
  }
  if (pieces_.empty()) return;
  count_ = round_up(total, alignment * dp.size());
  owned_ = options_.zero == 0 ? Range{0, count_} : share_of(dp.rank());
  const auto own = [&](const Tensor& all) { return all.narrow(0, owned_.begin, owned_.count); };
  if (options_.zero < 3) {
    value_ = allocate_for(dp, count_, options_.dtype);
    owned_value_ = own(value_);
  } else {
    owned_value_ = allocate_for(dp, owned_.count, options_.dtype);
  }
  const MemoryScope of_gradients(MemoryUse::gradients);
  if (options_.zero < 2) {
    grad_ = allocate_for(dp, count_, Dtype::f32);
    owned_grad_ = own(grad_);
  } else {
    owned_grad_ = Tensor::zeros({owned_.count}, Dtype::f32, dp.device());
  }
  for (auto* p : parameters_) {
    p->value = Tensor::over(nullptr, View(nullptr, options_.dtype, p->shape, dp.device()));
    autograd::require_grad(p->value);
  }
  if (value_.defined()) point_values(value_);
  if (grad_.defined()) point_gradients(grad_);
}

FlatBucket::~FlatBucket() {
  if (std::uncaught_exceptions() > 0) return;
  try {
    value_work_.wait_host();
    grad_work_.wait_host();
  } catch (const std::exception&) {
    // The communicator says why at its next use.
  }
}

FlatBucket::Range FlatBucket::share_of(int rank) const {
  const std::int64_t share = count_ / dp_.size();
  return {rank * share, share};
}

void FlatBucket::point_values(const Tensor& flat) {
  for (const auto& piece : pieces_) {
    auto& p = *piece.parameter;
    autograd::rebind(p.value, flat.defined() ? flat.narrow(0, piece.offset, piece.count).view(p.shape) : Tensor());
  }
}

void FlatBucket::point_gradients(const Tensor& flat) {
  for (const auto& piece : pieces_) {
    const auto& p = *piece.parameter;
    autograd::set_gradient(p.value,
                           flat.defined() ? flat.narrow(0, piece.offset, piece.count).view(p.shape) : Tensor());
  }
}

void FlatBucket::publish_values() {
  if (count_ == 0 || options_.zero == 0 || options_.zero == 3 || dp_.size() == 1) return;
  value_work_ = dp_.all_gather(comm::buffer_of(owned_value_), comm::buffer_of(value_), default_stream(value_.device()));
}

void FlatBucket::fetch_values() {
  if (count_ == 0 || value_.defined()) return;
  const MemoryScope use(MemoryUse::parameters);
  value_ = Tensor::empty({count_}, options_.dtype, dp_.device());
  value_work_ = dp_.all_gather(comm::buffer_of(owned_value_), comm::buffer_of(value_), default_stream(value_.device()));
  point_values(value_);
}

void FlatBucket::need_values() {
  if (count_ == 0) return;
  fetch_values();
  std::exchange(value_work_, {}).wait(default_stream(value_.device()));
}

void FlatBucket::drop_values() {
  if (count_ == 0 || options_.zero < 3 || !value_.defined()) return;
  need_values();
  point_values({});
  value_ = {};
}

void FlatBucket::open_gradients(bool first) {
  if (count_ == 0) return;
  if (first) settled_first_ = false;
  if (!grad_.defined()) {
    const MemoryScope use(MemoryUse::gradients);
    grad_ = Tensor::empty({count_}, Dtype::f32, dp_.device());
    // The flat memory's padding takes part in sums.
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      const std::int64_t end = pieces_[i].offset + pieces_[i].count;
      const std::int64_t next = i + 1 < pieces_.size() ? pieces_[i + 1].offset : count_;
      if (next > end) grad_.narrow(0, end, next - end).fill(0.0f);
    }
    point_gradients(grad_);
  } else if (first || options_.reduce_each || options_.strict) {
    for (const auto* p : parameters_) autograd::clear_grad(p->value);
  }
}

void FlatBucket::complete_gradients() {
  for (const auto* p : parameters_) {
    if (!autograd::grad_of(p->value).defined()) autograd::leaf_slot(p->value).tensor.fill(0.0f);
  }
}

void FlatBucket::reduce_gradients(bool last) {
  if (count_ == 0) return;
  if (options_.strict && !options_.reduce_each) {
    tree_.add(grad_);
    if (last) tree_.finish(grad_);
  }
  if (!reduces(last) || dp_.size() == 1) return;
  auto& stream = default_stream(grad_.device());
  const auto buffer = comm::buffer_of(grad_);
  if (options_.zero == 0) {
    grad_work_ = dp_.all_reduce(buffer, comm::Reduce::sum, stream);
  } else {
    grad_work_ = dp_.reduce_scatter(buffer, comm::buffer_of(grad_.narrow(0, owned_.begin, owned_.count)),
                                    comm::Reduce::sum, stream);
  }
}

void FlatBucket::settle_gradients(bool last) {
  if (count_ == 0 || !grad_.defined()) return;
  auto& stream = default_stream(grad_.device());
  std::exchange(grad_work_, {}).wait(stream);
  if (!options_.reduce_each) return;
  const Tensor sum = grad_.narrow(0, owned_.begin, owned_.count);
  if (options_.strict) {
    tree_.add(sum);
    if (last) tree_.finish(owned_grad_);
  } else if (settled_first_) {
    ops::add(stream, owned_grad_, sum, owned_grad_);
  } else {
    owned_grad_.copy_from(sum);
  }
  settled_first_ = true;
  if (options_.zero >= 2) {
    point_gradients({});
    grad_ = {};
  }
}

}  // namespace dujiang::parallel
