#include "framework/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "framework/base/rehearsal.h"
#include "framework/train/exact_sum.h"
#include "ops/elementwise.h"
#include "ops/optim.h"

namespace dujiang::train {

void assign_groups(std::span<nn::Parameter* const> parameters, std::span<nn::Module* const> blocks,
                   const OptimizerSection& section) {
  std::set<const nn::Parameter*> matrices;
  if (section.name == "muon")
    for (auto* block : blocks)
      for (const auto* p : block->parameters())
        if (p->shape.rank() == 2) matrices.insert(p);
  std::vector<int> matched(section.groups.size(), 0);
  bool any = false;
  for (auto* p : parameters) {
    p->group = {.lr_scale = 1.0f,
                .weight_decay = p->shape.rank() < 2 ? 0.0f : static_cast<float>(section.weight_decay),
                .rule = matrices.contains(p) ? nn::Group::Rule::muon : nn::Group::Rule::adamw};
    for (std::size_t i = 0; i < section.groups.size(); ++i) {
      const auto& group = section.groups[i];
      if (!path_matches(group.match, p->path)) continue;
      ++matched[i];
      p->group.lr_scale = static_cast<float>(group.lr_scale);
      if (group.weight_decay) p->group.weight_decay = static_cast<float>(*group.weight_decay);
      if (group.adamw) p->group.rule = nn::Group::Rule::adamw;
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

// A moment in bf16 moves where (1 - beta) |x - moment|, x being the gradient or its square, is above half the distance
// of neighbours, which is 2^-9 to 2^-8 of the moment. So where gradients vanish it stands still from beta = 1 - 2^-8 =
// 0.996 on, and below it follows the better the further. The root of the second moment beside that in f32, of noisy
// gradients that then become a tenth: 1.00 at 0.95, up to 1.05 at 0.99, 0.94 at 0.995, 13 at 0.997 and 23 at 0.999.
constexpr double most_beta_in_bf16 = 0.99;

std::optional<std::string> moments_fault(const OptimizerSection& section) {
  if (section.moments == Dtype::f32) return std::nullopt;
  if (section.name != "adamw")
    return fmt::format("bf16 isn't possible with optimizer.name: {}, only with adamw; choose fp32", section.name);
  for (const double beta : section.betas)
    if (beta > most_beta_in_bf16)
      return fmt::format(
          "bf16 isn't possible with optimizer.betas above {}, found {}: a step would change a moment by less than bf16 "
          "can tell, and it would stand still; choose fp32 or smaller betas",
          most_beta_in_bf16, beta);
  return std::nullopt;
}

Optimizer::Optimizer(const parallel::DataParallel& data_parallel, const parallel::Mesh& mesh,
                     const OptimizerSection& section)
    : section_(section),
      mesh_(mesh),
      sharded_(data_parallel.zero() > 0),
      has_masters_(data_parallel.dtype() != Dtype::f32) {
  if (const auto fault = moments_fault(section)) fail_user("optimizer.moments: {}", *fault);
  const MemoryScope use(MemoryUse::optimizer);
  for (const auto& bucket : data_parallel.buckets()) {
    State state{.bucket = bucket.get(), .master = {}, .first = {}, .second = {}, .slices = {}, .ranges = {}};
    if (bucket->count() > 0) divide(state);
    states_.push_back(std::move(state));
  }
  if (std::all_of(states_.begin(), states_.end(), [](const State& s) { return s.all_at_once; })) return;
  const auto cost = [&](const nn::Parameter& p) {
    return p.group.rule == Rule::muon ? orthogonalise_flops(p.global, section_.newton_schulz_steps) : 0.0;
  };
  // bf16 beside f16 too, whose range a gradient leaves.
  matrices_ = std::make_unique<parallel::WholeMatrices>(data_parallel, mesh, has_masters_ ? Dtype::bf16 : Dtype::f32,
                                                        cost, "optimizer.name: muon");
}

// Slices and ranges of the owned range, and memory for their state.
void Optimizer::divide(State& state) const {
  constexpr std::int64_t alignment = 16;
  const auto [begin, count] = state.bucket->owned();
  const auto device = state.bucket->owned_value().device();
  std::int64_t second = 0;
  for (const auto& piece : state.bucket->pieces()) {
    const auto& group = piece.parameter->group;
    if (group.rule == Rule::muon) state.all_at_once = false;
    const std::int64_t from = std::max(piece.offset, begin);
    const std::int64_t to = std::min(piece.offset + piece.count, begin + count);
    if (from >= to) continue;
    if (state.ranges.empty() || !(state.ranges.back().group == group)) {
      second = (second + alignment - 1) / alignment * alignment;
      state.ranges.push_back({from - begin, 0, second, group});
    }
    auto& range = state.ranges.back();
    range.count = to - begin - range.at;
    const std::int64_t second_at = range.second_at + from - begin - range.at;
    state.slices.push_back({piece.parameter, from - begin, from - piece.offset, to - from, second_at});
    if (group.rule == Rule::adamw) second = second_at + to - from;
  }
  state.master = state.bucket->owned_value();
  if (has_masters_) {
    const bool split = state.master.dtype() == Dtype::bf16;
    state.master = Tensor::zeros({count}, split ? Dtype::u16 : Dtype::f32, device);
  }
  state.first = Tensor::zeros({count}, section_.moments, device);
  if (second > 0) state.second = Tensor::zeros({second}, section_.moments, device);
}

template <class Get>
void Optimizer::append(std::vector<StateSlice>& to, const char* suffix, Get&& get) const {
  for (const auto& state : states_)
    for (const auto& slice : state.slices)
      if (const Tensor tensor = get(state, slice); tensor.defined())
        to.push_back({slice.parameter->path + suffix, slice.parameter, slice.first, tensor});
}

Tensor Optimizer::read_masters(const State& state, std::int64_t at, std::int64_t count) const {
  const Tensor master = state.master.narrow(0, at, count);
  if (master.dtype() == Dtype::f32) return master;
  const Tensor whole = Tensor::empty({count}, Dtype::f32, master.device());
  ops::join_f32(default_stream(master.device()), state.bucket->owned_value().narrow(0, at, count), master, whole);
  return whole;
}

void Optimizer::write_masters(const State& state, std::int64_t at, const Tensor& masters) const {
  const std::int64_t count = masters.count();
  const Tensor value = state.bucket->owned_value().narrow(0, at, count);
  if (state.master.dtype() == Dtype::f32) return value.copy_from(masters);
  ops::split_f32(default_stream(masters.device()), masters, value, state.master.narrow(0, at, count));
}

void Optimizer::set_masters(const std::function<void(const StateSlice&)>& fill) const {
  constexpr std::int64_t most = std::int64_t{1} << 20;  // elements at a time
  for (const auto& state : states_) {
    if (!state.master.defined()) continue;
    for (const auto& slice : state.slices) {
      for (std::int64_t done = 0; done < slice.count; done += most) {
        const std::int64_t at = slice.at + done, count = std::min(most, slice.count - done);
        const Tensor masters = read_masters(state, at, count);
        fill({slice.parameter->path, slice.parameter, slice.first + done, masters});
        write_masters(state, at, masters);
      }
    }
    state.bucket->publish_values();
  }
}

std::vector<StateSlice> Optimizer::values() const {
  std::vector<StateSlice> all;
  append(all, "",
         [](const State& state, const Slice& s) { return state.bucket->owned_value().narrow(0, s.at, s.count); });
  return all;
}

std::vector<StateSlice> Optimizer::masters() const {
  if (!has_masters_) return {};
  std::vector<StateSlice> all;
  append(all, ".master", [](const State& state, const Slice& s) { return state.master.narrow(0, s.at, s.count); });
  const auto high = values();
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].tensor.dtype() != Dtype::f32) all[i].low = std::exchange(all[i].tensor, high[i].tensor);
  return all;
}

std::vector<StateSlice> Optimizer::moments() const {
  std::vector<StateSlice> all;
  const auto first_of = [](Rule rule) {
    return [rule](const State& state, const Slice& s) {
      return s.parameter->group.rule == rule ? state.first.narrow(0, s.at, s.count) : Tensor();
    };
  };
  append(all, ".m", first_of(Rule::adamw));
  append(all, ".momentum", first_of(Rule::muon));
  append(all, ".v", [](const State& state, const Slice& s) {
    return s.parameter->group.rule == Rule::adamw ? state.second.narrow(0, s.second_at, s.count) : Tensor();
  });
  return all;
}

std::vector<std::pair<std::string, Dtype>> Optimizer::state_names(const nn::Parameter& parameter) const {
  std::vector<std::pair<std::string, Dtype>> names;
  if (has_masters_) names.emplace_back(".master", Dtype::f32);
  if (parameter.group.rule == Rule::muon) {
    names.emplace_back(".momentum", section_.moments);
  } else {
    names.insert(names.end(), {{".m", section_.moments}, {".v", section_.moments}});
  }
  return names;
}

std::vector<Tensor> Optimizer::counted_gradients() const {
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

double Optimizer::squared_norm(bool exact) const {
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

const nn::Parameter* Optimizer::bad_gradient() const {
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

void Optimizer::update(std::int64_t step, double lr, double grad_scale) {
  for (const auto& state : states_) {
    sweep(state, step, lr, grad_scale);
    if (state.all_at_once) state.bucket->publish_values();
  }
  if (matrices_) update_matrices(lr, grad_scale);
}

// All of AdamW's update, and Muon's momentum.
void Optimizer::sweep(const State& state, std::int64_t step, double lr, double grad_scale) const {
  const auto t = static_cast<double>(step);
  const Tensor value = state.bucket->owned_value(), grad = state.bucket->owned_grad();
  for (const auto& range : state.ranges) {
    const auto part = [&](const Tensor& flat) { return flat.raw().narrowed(0, range.at, range.count); };
    if (range.group.rule == Rule::muon) {
      muon_momentum(state.first.narrow(0, range.at, range.count), grad.narrow(0, range.at, range.count),
                    muon_step(grad_scale));
      continue;
    }
    const ops::AdamwStep hyper{.lr = static_cast<float>(lr * range.group.lr_scale),
                               .beta1 = static_cast<float>(section_.betas[0]),
                               .beta2 = static_cast<float>(section_.betas[1]),
                               .eps = static_cast<float>(section_.eps),
                               .weight_decay = range.group.weight_decay,
                               .bias_correction1 = static_cast<float>(1.0 - std::pow(section_.betas[0], t)),
                               .bias_correction2 = static_cast<float>(1.0 - std::pow(section_.betas[1], t)),
                               .grad_scale = static_cast<float>(grad_scale)};
    ops::adamw(default_stream(grad.device()), part(state.master), part(state.first),
               state.second.raw().narrowed(0, range.second_at, range.count), part(grad),
               has_masters_ ? part(value) : View{}, hyper);
  }
}

MuonStep Optimizer::muon_step(double grad_scale) const {
  return {.momentum = static_cast<float>(section_.momentum),
          .nesterov = section_.nesterov,
          .grad_scale = static_cast<float>(grad_scale)};
}

void Optimizer::update_matrices(double lr, double grad_scale) const {
  using Cut = parallel::WholeMatrices::Cut;
  const auto place = [&](const Cut& cut) {
    return cut.matrix->offset + cut.first - states_[cut.matrix->bucket].bucket->owned().begin;
  };
  const auto read = [&](const Cut& cut, const Tensor& to) {
    const auto& state = states_[cut.matrix->bucket];
    const auto owned = [&](const Tensor& flat) { return flat.narrow(0, place(cut), cut.count); };
    muon_direction(owned(state.first), owned(state.bucket->owned_grad()), muon_step(grad_scale), to);
  };
  const auto work = [&](const parallel::WholeMatrices::Matrix&, const Tensor& whole) {
    orthogonalise(whole, section_.newton_schulz_steps);
  };
  const auto write = [&](const Cut& cut, const Tensor& update) {
    const auto& state = states_[cut.matrix->bucket];
    const auto& p = *cut.matrix->parameter;
    const double rate = lr * p.group.lr_scale;
    const std::int64_t at = place(cut);
    const Tensor masters = read_masters(state, at, cut.count);
    muon_apply(masters, update, static_cast<float>(rate * p.group.weight_decay),
               static_cast<float>(rate * muon_size(p.global)));
    write_masters(state, at, masters);
  };
  for (const auto& round : matrices_->rounds()) {
    matrices_->run(round, read, work, write);
    for (std::size_t b = round.bucket; b < round.bucket_end; ++b)
      if (!states_[b].all_at_once) states_[b].bucket->publish_values();
  }
}

}  // namespace dujiang::train
