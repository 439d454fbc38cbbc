#include "framework/nn/module.h"

#include <algorithm>

#include "framework/base/check.h"
#include "framework/base/philox.h"
#include "framework/base/threads.h"

namespace dujiang::nn {

std::vector<ElementRun> element_runs(const Parameter& parameter, std::int64_t first, std::int64_t count) {
  DUJIANG_CHECK(first >= 0 && count >= 0 && first + count <= parameter.shape.count(),
                "elements {} to {} of parameter {} {}", first, first + count, parameter.path, parameter.shape.str());
  std::vector<ElementRun> runs;
  if (parameter.layout.kind != Layout::Kind::shard) {
    if (count > 0) runs.push_back({first, first, count});
    return runs;
  }
  // Along the cut axis a part has `held` lines of `line` elements, in each of the blocks before it.
  const int axis = parameter.layout.axis;
  std::int64_t line = 1;
  for (int i = axis + 1; i < parameter.shape.rank(); ++i) line *= parameter.shape[i];
  const std::int64_t block = parameter.shape[axis] * line, whole_block = parameter.global[axis] * line;
  const std::int64_t real =
      std::clamp<std::int64_t>(parameter.global[axis] - parameter.offset, 0, parameter.shape[axis]) * line;
  for (std::int64_t at = first; at < first + count;) {
    const std::int64_t index = at / block, inside = at % block;
    const std::int64_t end = std::min(first + count, (index + 1) * block);
    const std::int64_t length = std::min(end, index * block + real) - at;
    if (length > 0) {
      const std::int64_t global = index * whole_block + parameter.offset * line + inside;
      if (!runs.empty() && runs.back().local + runs.back().count == at &&
          runs.back().global + runs.back().count == global) {
        runs.back().count += length;
      } else {
        runs.push_back({at, global, length});
      }
    }
    at = end;
  }
  return runs;
}

void initialise(const Parameter& parameter, std::uint64_t seed, const Tensor& target, std::int64_t first) {
  if (parameter.init.kind == Init::Kind::ones) {
    target.fill(1.0f);
    return;
  }
  const Tensor values = target.dtype() == Dtype::f32 ? target : Tensor::empty(target.shape(), Dtype::f32);
  const auto out = values.data<float>();
  const Philox random(seed, stream_of(parameter.path));
  const float std = parameter.init.std;
  const auto runs = element_runs(parameter, first, values.count());
  std::int64_t drawn = 0;
  for (const auto& run : runs) drawn += run.count;
  if (drawn < values.count()) values.fill(0.0f);
  for (const auto& run : runs) {
    parallel_ranges(run.count, 4096, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i)
        out[static_cast<std::size_t>(run.local - first + i)] =
            std * random.normal(static_cast<std::uint64_t>(run.global + i));
    });
  }
  if (target.dtype() != Dtype::f32) target.copy_from(values);
}

Tensor Module::operator()(const Tensor& x, const StepContext& context) {
  if (wrappers_.empty()) return forward(x, context);
  return run(x, wrappers_.size(), std::make_shared<const StepContext>(context));
}

// Level i runs wrapper i - 1 around level i - 1; level 0 is the forward pass. A wrapper may keep `next` for backward.
Tensor Module::run(const Tensor& x, std::size_t level, const std::shared_ptr<const StepContext>& context) {
  if (level == 0) return forward(x, *context);
  return wrappers_[level - 1](x,
                              [this, level, context](const Tensor& inner) { return run(inner, level - 1, context); });
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
  parameter->global = parameter->shape = shape;
  parameter->init = init;
  parameters_.push_back(std::move(parameter));
  return *parameters_.back();
}

}  // namespace dujiang::nn
