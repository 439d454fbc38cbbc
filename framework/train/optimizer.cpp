#include "framework/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "framework/base/rehearsal.h"
#include "framework/train/exact_sum.h"
#include "ops/elementwise.h"
#include "ops/optim.h"

namespace dujiang::train {

void assign_groups(std::span<nn::Parameter* const> parameters, const OptimizerSection& section) {
  std::vector<int> matched(section.groups.size(), 0);
  bool any = false;
  for (auto* p : parameters) {
    p->group = {.lr_scale = 1.0f,
                .weight_decay = p->shape.rank() < 2 ? 0.0f : static_cast<float>(section.weight_decay)};
    for (std::size_t i = 0; i < section.groups.size(); ++i) {
      const auto& group = section.groups[i];
      if (!path_matches(group.match, p->path)) continue;
      ++matched[i];
      p->group.lr_scale = static_cast<float>(group.lr_scale);
      if (group.weight_decay) p->group.weight_decay = static_cast<float>(*group.weight_decay);
      p->trainable = group.trainable;
      break;
    }
    any = any || p->trainable;
  }
  for (std::size_t i = 0; i < matched.size(); ++i)
    if (matched[i] == 0)
      fail_user(
          "optimizer.groups[{}]: match '{}' covers no parameter (or earlier groups took them all); paths look like {}",
          i, section.groups[i].match, parameters.empty() ? "" : parameters.back()->path);
  if (!any) fail_user("optimizer.groups: no parameter is left trainable");
}

AdamW::AdamW(const parallel::DataParallel& data_parallel, const parallel::Mesh& mesh, const OptimizerSection& section)
    : section_(section),
      mesh_(mesh),
      sharded_(data_parallel.zero() > 0),
      has_masters_(data_parallel.dtype() != Dtype::f32) {
  for (const auto& bucket : data_parallel.buckets()) {
    if (bucket->count() == 0) continue;
    const auto [begin, count] = bucket->owned();
    const auto device = bucket->owned_value().device();
    State state{.bucket = bucket.get(), .master = bucket->owned_value(), .m = {}, .v = {}, .slices = {}, .ranges = {}};
    const MemoryScope use(MemoryUse::optimizer);
    if (state.master.dtype() != Dtype::f32) state.master = Tensor::zeros({count}, Dtype::f32, device);
    state.m = Tensor::zeros({count}, Dtype::f32, device);
    state.v = Tensor::zeros({count}, Dtype::f32, device);
    for (const auto& piece : bucket->pieces()) {
      const std::int64_t from = std::max(piece.offset, begin);
      const std::int64_t to = std::min(piece.offset + piece.count, begin + count);
      if (from >= to) continue;
      state.slices.push_back({piece.parameter, from - begin, from - piece.offset, to - from});
      const auto& group = piece.parameter->group;
      if (state.ranges.empty() || !(state.ranges.back().group == group))
        state.ranges.push_back({from - begin, 0, group});
      state.ranges.back().count = to - begin - state.ranges.back().at;
    }
    states_.push_back(std::move(state));
  }
  append(masters_, "", [](const State& state) { return state.master; });
}

template <class Get>
void AdamW::append(std::vector<StateSlice>& to, const char* suffix, Get&& flat_of) const {
  for (const auto& state : states_)
    for (const auto& slice : state.slices)
      to.push_back({slice.parameter->path + suffix, slice.parameter, slice.first,
                    flat_of(state).narrow(0, slice.at, slice.count)});
}

void AdamW::publish() const {
  for (const auto& state : states_) {
    const Tensor value = state.bucket->owned_value();
    if (value.dtype() != Dtype::f32) value.copy_from(state.master);
    state.bucket->publish_values();
  }
}

std::vector<StateSlice> AdamW::values() const {
  std::vector<StateSlice> all;
  append(all, "", [](const State& state) { return state.bucket->owned_value(); });
  return all;
}

std::vector<StateSlice> AdamW::state() const {
  std::vector<StateSlice> all;
  if (has_masters_) append(all, ".master", [](const State& state) { return state.master; });
  append(all, ".m", [](const State& state) { return state.m; });
  append(all, ".v", [](const State& state) { return state.v; });
  return all;
}

std::vector<std::string> AdamW::state_names(const nn::Parameter&) const {
  if (has_masters_) return {".master", ".m", ".v"};
  return {".m", ".v"};
}

std::vector<Tensor> AdamW::counted_gradients() const {
  std::vector<Tensor> parts;
  for (const auto& state : states_) {
    // Neighbours together; what lies between them is padding, whose gradient is zero.
    std::int64_t begin = -1, end = 0;
    const auto flush = [&] {
      if (begin >= 0) parts.push_back(state.bucket->owned_grad().narrow(0, begin, end - begin));
      begin = -1;
    };
    for (const auto& slice : state.slices) {
      if (!slice.parameter->primary) {
        flush();
        continue;
      }
      if (begin < 0) begin = slice.at;
      end = slice.at + slice.count;
    }
    flush();
  }
  return parts;
}

double AdamW::squared_norm(bool exact) const {
  const auto parts = counted_gradients();
  std::vector<comm::Communicator*> over;
  if (mesh_.tp().size() > 1) over.push_back(&mesh_.tp());
  if (sharded_) over.push_back(&mesh_.dp());
  if (exact) return exact_sum_of_squares(parts, over);
  const Tensor part = Tensor::empty({1}, Dtype::f64);
  double total = 0;
  for (const auto& gradient : parts) {
    ops::sum_of_squares(default_stream(part.device()), gradient, part);
    total += part.item();
  }
  for (auto* ranks : over)
    ranks->all_reduce(comm::Buffer{&total, 1, Dtype::f64, {}}, comm::Reduce::sum, default_stream({})).wait_host();
  return total;
}

const nn::Parameter* AdamW::bad_gradient() const {
  const Tensor part = Tensor::empty({1}, Dtype::f64);
  for (const auto& state : states_) {
    for (const auto& slice : state.slices) {
      ops::sum_of_squares(default_stream(part.device()), state.bucket->owned_grad().narrow(0, slice.at, slice.count),
                          part);
      if (!std::isfinite(part.item())) return slice.parameter;
    }
  }
  return nullptr;
}

void AdamW::update(std::int64_t step, double lr, double grad_scale) {
  const auto t = static_cast<double>(step);
  for (auto& state : states_) {
    const Tensor value = state.bucket->owned_value(), grad = state.bucket->owned_grad();
    for (const auto& range : state.ranges) {
      const auto part = [&](const Tensor& flat) { return flat.raw().narrowed(0, range.at, range.count); };
      const ops::AdamwStep hyper{.lr = static_cast<float>(lr * range.group.lr_scale),
                                 .beta1 = static_cast<float>(section_.betas[0]),
                                 .beta2 = static_cast<float>(section_.betas[1]),
                                 .eps = static_cast<float>(section_.eps),
                                 .weight_decay = range.group.weight_decay,
                                 .bias_correction1 = static_cast<float>(1.0 - std::pow(section_.betas[0], t)),
                                 .bias_correction2 = static_cast<float>(1.0 - std::pow(section_.betas[1], t)),
                                 .grad_scale = static_cast<float>(grad_scale)};
      ops::adamw(default_stream(state.m.device()), part(state.master), part(state.m), part(state.v), part(grad),
                 value.dtype() != Dtype::f32 ? part(value) : View{}, hyper);
    }
    state.bucket->publish_values();
  }
}

}  // namespace dujiang::train
