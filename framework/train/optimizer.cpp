#include "framework/train/optimizer.h"

#include <cmath>

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

AdamW::AdamW(const std::vector<std::unique_ptr<parallel::FlatBucket>>& buckets, const OptimizerSection& section)
    : section_(section) {
  for (const auto& bucket : buckets) {
    if (bucket->count() == 0) continue;
    State state{.bucket = bucket.get(), .master = bucket->value(), .m = {}, .v = {}, .ranges = {}};
    if (bucket->value().dtype() != Dtype::f32) state.master = Tensor::zeros({bucket->count()}, Dtype::f32);
    state.m = Tensor::zeros({bucket->count()}, Dtype::f32);
    state.v = Tensor::zeros({bucket->count()}, Dtype::f32);
    for (const auto& piece : bucket->pieces()) {
      const auto& group = piece.parameter->group;
      if (state.ranges.empty() || !(state.ranges.back().group == group))
        state.ranges.push_back({piece.offset, 0, group});
      state.ranges.back().count = piece.offset + piece.count - state.ranges.back().offset;
    }
    states_.push_back(std::move(state));
  }
}

void AdamW::for_each_master(const std::function<void(const nn::Parameter&, const Tensor&)>& visitor) const {
  for (const auto& state : states_)
    for (const auto& piece : state.bucket->pieces())
      visitor(*piece.parameter, state.master.narrow(0, piece.offset, piece.count).view(piece.parameter->shape));
}

void AdamW::publish() const {
  for (const auto& state : states_)
    if (state.master.dtype() != state.bucket->value().dtype()) state.bucket->value().copy_from(state.master);
}

double AdamW::squared_norm() const {
  const Tensor part = Tensor::empty({1}, Dtype::f64);
  double total = 0;
  for (const auto& state : states_) {
    ops::sum_of_squares(default_stream(part.device()), state.bucket->grad(), part);
    total += part.item();
  }
  return total;
}

void AdamW::update(std::int64_t step, double lr, double grad_scale) {
  const auto t = static_cast<double>(step);
  for (auto& state : states_) {
    const bool copies = state.bucket->value().dtype() != Dtype::f32;
    for (const auto& range : state.ranges) {
      const auto part = [&](const Tensor& flat) { return flat.raw().narrowed(0, range.offset, range.count); };
      const ops::AdamwStep hyper{.lr = static_cast<float>(lr * range.group.lr_scale),
                                 .beta1 = static_cast<float>(section_.betas[0]),
                                 .beta2 = static_cast<float>(section_.betas[1]),
                                 .eps = static_cast<float>(section_.eps),
                                 .weight_decay = range.group.weight_decay,
                                 .bias_correction1 = static_cast<float>(1.0 - std::pow(section_.betas[0], t)),
                                 .bias_correction2 = static_cast<float>(1.0 - std::pow(section_.betas[1], t)),
                                 .grad_scale = static_cast<float>(grad_scale)};
      ops::adamw(default_stream(state.m.device()), part(state.master), part(state.m), part(state.v),
                 part(state.bucket->grad()), copies ? part(state.bucket->value()) : View{}, hyper);
    }
  }
}

std::vector<NamedTensor> AdamW::state() const {
  std::vector<NamedTensor> all;
  for (const auto& state : states_) {
    for (const auto& piece : state.bucket->pieces()) {
      const auto& p = *piece.parameter;
      const auto add = [&](const char* suffix, const Tensor& flat) {
        all.push_back({p.path + suffix, flat.narrow(0, piece.offset, piece.count).view(p.shape)});
      };
      if (state.bucket->value().dtype() != Dtype::f32) add(".master", state.master);
      add(".m", state.m);
      add(".v", state.v);
    }
  }
  return all;
}

}  // namespace dujiang::train
