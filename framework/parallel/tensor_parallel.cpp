#include "framework/parallel/tensor_parallel.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "framework/base/check.h"
#include "framework/nn/layers.h"
#include "framework/parallel/collective_fns.h"

namespace dujiang::parallel {
namespace {

const ParameterRule* rule_of(const Plan& plan, const std::string& path) {
  for (const auto& rule : plan.parameters)
    if (path_matches(rule.match, path)) return &rule;
  return nullptr;
}

std::int64_t units_of(const nn::Parameter& parameter, const ParameterRule& rule) {
  return parameter.global[rule.layout.axis] / rule.unit;
}

bool divides(std::int64_t ranks, std::int64_t units, const ParameterRule& rule) {
  return rule.pad || units % ranks == 0 || (rule.repeat && ranks % units == 0);
}

// Tokens as rows of a table that begins with `first`; -1 where it hasn't the row.
Tensor local_tokens(const Tensor& tokens, std::int64_t first, std::int64_t rows) {
  if (tokens.device().type != DeviceType::cpu) return tokens;
  Tensor local = Tensor::empty(tokens.shape(), Dtype::i32, tokens.device());
  const auto from = tokens.data<std::int32_t>();
  const auto to = local.data<std::int32_t>();
  std::transform(from.begin(), from.end(), to.begin(), [&](std::int32_t token) {
    return token >= first && token < first + rows ? static_cast<std::int32_t>(token - first) : -1;
  });
  return local;
}

}  // namespace

std::vector<std::string> plan_faults(nn::Module& model, const Plan& plan, int ranks,
                                     const TensorParallelOptions& options) {
  std::vector<std::string> faults;
  if (options.strict_ways > 0) {
    if (options.sequence)
      faults.push_back("parallel.sequence: true isn't possible with train.strict: true; choose one of them");
    if ((ranks & (ranks - 1)) != 0 || ranks > options.strict_ways)
      faults.push_back(fmt::format(
          "parallel.tensor: {} isn't possible with train.strict: expected a power of two up to train.strict_ways {}",
          ranks, options.strict_ways));
  }
  for (const auto* parameter : model.parameters()) {
    const auto* rule = rule_of(plan, parameter->path);
    if (rule == nullptr || rule->layout.kind != nn::Layout::Kind::shard) continue;
    const std::int64_t units = units_of(*parameter, *rule);
    if (divides(ranks, units, *rule)) continue;
    std::vector<std::int64_t> possible;
    for (std::int64_t n = 1; n <= units; ++n)
      if (units % n == 0) possible.push_back(n);
    const auto fault = fmt::format("parallel.tensor: {} ranks can't share {} {}; it must be one of {}", ranks,
                                   rule->counted, units, fmt::join(possible, ", "));
    if (std::find(faults.begin(), faults.end(), fault) == faults.end()) faults.push_back(fault);
  }
  return faults;
}

TensorParallel::TensorParallel(nn::Module& model, const Plan& plan, comm::Communicator& ranks,
                               const TensorParallelOptions& options)
    : ranks_(ranks), options_(options) {
  const auto faults = plan_faults(model, plan, ranks.size(), options);
  if (!faults.empty()) fail_user("{}", fmt::join(faults, "\n"));
  std::map<const nn::Parameter*, const ParameterRule*> rules;
  for (auto* parameter : model.parameters()) {
    const auto* rule = rule_of(plan, parameter->path);
    if (rule == nullptr) continue;
    rules[parameter] = rule;
    cut(*parameter, *rule);
  }
  model.visit([&](nn::Module& module) {
    if (options_.strict_ways > 0) slice(module, rules);
    for (const auto& rule : plan.modules)
      if (path_matches(rule.match, module.path())) return wrap(module, rule.role);
  });
}

void TensorParallel::cut(nn::Parameter& p, const ParameterRule& rule) {
  const std::int64_t n = ranks_.size(), rank = ranks_.rank();
  if (rule.layout.kind != nn::Layout::Kind::shard) {
    p.primary = rank == 0;
    const bool summand = rule.gradient == ParameterRule::Gradient::partial ||
                         (rule.gradient == ParameterRule::Gradient::partial_by_sequence && options_.sequence);
    // In strict mode slices complete it.
    if (summand && n > 1 && options_.strict_ways == 0) p.gradient = nn::partial();
    return;
  }
  const int axis = rule.layout.axis;
  const std::int64_t units = units_of(p, rule);
  p.layout = p.gradient = rule.layout;
  if (rule.pad) {
    const std::int64_t parts = std::max<std::int64_t>(n, options_.strict_ways);
    p.shape[axis] = (p.global[axis] + parts - 1) / parts * parts / n;
    p.offset = rank * p.shape[axis];
  } else if (units % n == 0) {
    p.shape[axis] = p.global[axis] / n;
    p.offset = rank * p.shape[axis];
  } else {
    const std::int64_t copies = n / units;
    p.shape[axis] = rule.unit;
    p.offset = rank / copies * rule.unit;
    p.primary = rank % copies == 0;
    if (options_.strict_ways == 0) p.gradient = nn::partial();  // else attention completes it
    if (!copies_) copies_ = ranks_.split_by([=](int r) { return static_cast<int>(r / copies); });
  }
}

void TensorParallel::wrap(nn::Module& module, ModuleRule::Role role) {
  auto& ranks = ranks_;
  const bool strict = options_.strict_ways > 0;
  if (ranks.size() == 1 && !strict) return;
  const auto spread = options_.sequence ? gather_rows : copy_to_ranks;
  const auto collect = options_.sequence ? sum_and_cut_rows : sum_over_ranks;
  switch (role) {
    case ModuleRule::Role::region:
      if (strict) return;  // its slices know of the other ranks
      module.wrap([&ranks, spread, collect](const Tensor& x, const nn::Module::Next& next) {
        return collect(next(spread(x, ranks)), ranks);
      });
      break;
    case ModuleRule::Role::embedding: {
      if (ranks.size() == 1) return;
      const auto& table = *module.parameters().front();
      module.wrap([&ranks, &table, collect](const Tensor& tokens, const nn::Module::Next& next) {
        return collect(next(local_tokens(tokens, table.offset, table.shape[0])), ranks);
      });
      break;
    }
    case ModuleRule::Role::loss: {
      auto& loss = dynamic_cast<nn::CausalLoss&>(module);
      fn::VocabularyShard shard{.offset = loss.head().offset};
      if (ranks.size() > 1) shard.gather = [&ranks](const Tensor& x) { return all_gather_rows(x, ranks); };
      if (strict) {
        shard.slices = slices_of(options_.strict_ways, true);
      } else {
        loss.wrap([&ranks, spread](const Tensor& x, const nn::Module::Next& next) { return next(spread(x, ranks)); });
      }
      loss.shard(shard);
      break;
    }
  }
}

fn::Slices TensorParallel::slices_of(std::int64_t ways, bool counts) const {
  fn::Slices slices{.local = static_cast<int>(std::max<std::int64_t>(1, ways / ranks_.size())), .counts = counts};
  if (ranks_.size() > 1) slices.across = [&ranks = ranks_](const Tensor& sum) { all_reduce(sum, ranks); };
  return slices;
}

void TensorParallel::slice(nn::Module& module, const std::map<const nn::Parameter*, const ParameterRule*>& rules) {
  // As many as there may be ranks: a power of two that fits the units of all `parameters`.
  const auto ways_of = [&](std::initializer_list<const nn::Parameter*> parameters) {
    const auto fits = [&](std::int64_t ways) {
      return ways <= options_.strict_ways && std::all_of(parameters.begin(), parameters.end(), [&](const auto* p) {
               return divides(ways, units_of(*p, *rules.at(p)), *rules.at(p));
             });
    };
    std::int64_t ways = 1;
    while (fits(2 * ways)) ways *= 2;
    return ways;
  };
  const auto of_units = [&](const nn::Parameter& p) {
    return slices_of(std::min(ways_of({&p}), units_of(p, *rules.at(&p))), p.primary);
  };
  if (auto* linear = dynamic_cast<nn::Linear*>(&module); linear != nullptr && rules.contains(&linear->weight())) {
    const auto& weight = linear->weight();
    if (weight.layout.kind != nn::Layout::Kind::shard) return;
    linear->slice(fn::Slicing{weight.layout.axis == 0 ? fn::SlicedAxis::out : fn::SlicedAxis::in, of_units(weight)});
  }
  if (auto* attention = dynamic_cast<nn::Attention*>(&module)) {
    const auto &queries = attention->query().weight(), &keys = attention->key().weight();
    const auto heads = slices_of(ways_of({&queries, &keys}), true);
    nn::Attention::HeadSlices slices{.queries = heads, .keys = of_units(keys), .attention = {.local = heads.local}};
    if (copies_) slices.attention.across = [&copies = *copies_](const Tensor& sum) { all_reduce(sum, copies); };
    attention->slice(slices);
  }
}

void TensorParallel::complete_gradients(std::span<nn::Parameter* const> parameters) const {
  for (const auto kind : {nn::Layout::Kind::replicate, nn::Layout::Kind::shard}) {
    // Those of one group go together.
    std::vector<Tensor> gradients;
    std::int64_t total = 0;
    for (const auto* p : parameters) {
      if (!p->trainable || p->gradient.kind != nn::Layout::Kind::partial || p->layout.kind != kind) continue;
      gradients.push_back(autograd::grad_of(p->value));
      total += gradients.back().count();
    }
    if (total == 0) continue;
    const Tensor together = Tensor::empty({total}, Dtype::f32, gradients.front().device());
    const auto each = [&](auto&& action) {
      std::int64_t at = 0;
      for (const auto& gradient : gradients) {
        action(gradient, together.narrow(0, at, gradient.count()).view(gradient.shape()));
        at += gradient.count();
      }
    };
    each([](const Tensor& gradient, const Tensor& part) { part.copy_from(gradient); });
    all_reduce(together, kind == nn::Layout::Kind::replicate ? ranks_ : *copies_);
    each([](const Tensor& gradient, const Tensor& part) { gradient.copy_from(part); });
  }
}

}  // namespace dujiang::parallel
