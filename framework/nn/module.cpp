#include "framework/nn/module.h"

#include "framework/base/philox.h"
#include "framework/base/threads.h"

namespace dujiang::nn {

void initialise(const Parameter& parameter, std::uint64_t seed, const Tensor& target) {
  if (parameter.init.kind == Init::Kind::ones) {
    target.fill(1.0f);
    return;
  }
  const Tensor values = target.dtype() == Dtype::f32 ? target : Tensor::empty(target.shape(), Dtype::f32);
  const auto out = values.data<float>();
  const Philox random(seed, stream_of(parameter.path));
  const float std = parameter.init.std;
  parallel_ranges(values.count(), 4096, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i)
      out[static_cast<std::size_t>(i)] = std * random.normal(static_cast<std::uint64_t>(i));
  });
  if (target.dtype() != Dtype::f32) target.copy_from(values);
}

Tensor Module::operator()(const Tensor& x, const StepContext& context) {
  // Level i runs wrapper i - 1 around level i - 1; level 0 is the forward pass.
  const std::function<Tensor(const Tensor&, std::size_t)> run = [&](const Tensor& input, std::size_t level) {
    if (level == 0) return forward(input, context);
    return wrappers_[level - 1](input, [&](const Tensor& inner) { return run(inner, level - 1); });
  };
  return run(x, wrappers_.size());
}

std::vector<Parameter*> Module::parameters() {
  std::vector<Parameter*> all;
  visit([&](Module& module) {
    for (const auto& parameter : module.parameters_) all.push_back(parameter.get());
  });
  return all;
}

void Module::visit(const std::function<void(Module&)>& visitor) {
  visitor(*this);
  for (const auto& child : children_) child->visit(visitor);
}

Parameter& Module::add_parameter(std::string_view name, Shape shape, Init init) {
  auto parameter = std::make_unique<Parameter>();
  parameter->path = path_.empty() ? std::string(name) : path_ + "." + std::string(name);
  parameter->shape = shape;
  parameter->init = init;
  parameters_.push_back(std::move(parameter));
  return *parameters_.back();
}

}  // namespace dujiang::nn
