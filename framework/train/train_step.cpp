#include "framework/train/train_step.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>

#include "framework/autograd/recompute.h"
#include "framework/base/op_observer.h"
#include "framework/parallel/plan.h"
#include "framework/train/checkpoint.h"
#include "ops/elementwise.h"

namespace dujiang::train {
namespace {

class Clock {
 public:
  /// Milliseconds since the last call.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double, std::milli>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

bool finite(const Tensor& t) {
  const Tensor squares = Tensor::empty({1}, Dtype::f64);
  const Tensor values = is_floating(t.dtype()) && t.contiguous() ? t : t.clone();
  ops::sum_of_squares(default_stream(t.device()), values, squares);
  return std::isfinite(squares.item());
}

// Inside of everything that a layout adds.
void wrap_in_recompute(models::Qwen3& model, Recompute recompute, std::int64_t every) {
  const nn::Module::Wrapper again = [](const Tensor& x, const nn::Module::Next& next) {
    return autograd::recompute(x, next);
  };
  if (recompute == Recompute::attention)
    model.visit([&](nn::Module& module) {
      if (dynamic_cast<nn::Attention*>(&module) != nullptr) module.wrap(again);
    });
  if (recompute == Recompute::block)
    for (std::size_t i = 0; i < model.blocks().size(); i += static_cast<std::size_t>(every))
      model.blocks()[i]->wrap(again);
}

void require_support(const parallel::Mesh& mesh, const StepOptions& options) {
  auto& dp = mesh.dp();
  if (options.parallel.zero > 0 && dp.size() > 1 && !dp.supports(comm::Op::reduce_scatter, Dtype::f32))
    fail_user(
        "parallel.zero: {} needs reduce_scatter of f32, which transport {} doesn't have; choose parallel.zero: 0 "
        "or another comm.transport",
        options.parallel.zero, dp.transport());
  if (!options.strict) return;
  if (options.optimizer.name == "muon") fail_user("train.strict: {}", no_strict_muon);
  for (const auto* ranks : {&dp, &mesh.tp()})
    if (ranks->size() > 1 && !ranks->promises_tree_order())
      fail_user(
          "train.strict: transport {} promises no order of sums; choose comm.transport: mpi, or train.strict: "
          "false",
          ranks->transport());
}

std::map<std::string, StateSlice> by_name(std::vector<StateSlice> slices) {
  std::map<std::string, StateSlice> named;
  for (auto& slice : slices) named.emplace(slice.name, slice);
  return named;
}

std::vector<ExpectedTensor> expected_weights(models::Qwen3& model) {
  std::vector<ExpectedTensor> expected;
  for (const auto* p : model.parameters()) expected.push_back({p->path, p->global});
  return expected;
}

}  // namespace

Dtype compute_dtype(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return Dtype::f32;
    case Precision::bf16:
      return Dtype::bf16;
    case Precision::fp16:
      return Dtype::f16;
  }
  fail("unknown precision");
}

void LossScale::update(bool overflow) {
  if (overflow) {
    scale = std::max(scale / 2, 1.0);
    good_steps = 0;
  } else if (++good_steps == interval) {
    scale *= 2;
    good_steps = 0;
  }
}

ModelInput model_input(const data::Batch& batch) {
  const Shape shape{batch.sequences * batch.length};
  ModelInput input;
  input.tokens = Tensor::of<std::int32_t>(batch.tokens, shape);
  input.labels = Tensor::of<std::int32_t>(batch.labels, shape);
  input.loss_weight = Tensor::of<float>(batch.loss_weight, shape);
  input.context.positions = Tensor::of<std::int32_t>(batch.positions, shape);
  input.context.segments = std::make_shared<const std::vector<std::int32_t>>(batch.segments);
  return input;
}

StepOptions step_options(const Config& config) {
  return {.optimizer = config.optimizer,
          .precision = config.train.precision,
          .parallel = config.parallel,
          .recompute = config.train.recompute,
          .recompute_every = config.train.recompute_every,
          .strict = config.train.strict,
          .strict_ways = config.train.strict_ways};
}

TrainStep::TrainStep(models::Qwen3& model, comm::Communicator& world, const StepOptions& options)
    : model_(model), options_(options), mesh_(world, parallel::axis_sizes(world.size(), options.parallel.tensor)) {
  const bool strict = options_.strict;
  require_support(mesh_, options_);
  wrap_in_recompute(model, options_.recompute, options_.recompute_every);
  tensor_ = std::make_unique<parallel::TensorParallel>(
      model, parallel::plan_of(model.config().model_type, model.config().head_dim), mesh_.tp(),
      parallel::TensorParallelOptions{.sequence = options_.parallel.sequence,
                                      .strict_ways = strict ? static_cast<int>(options_.strict_ways) : 0});
  const std::vector<nn::Module*> blocks(model.blocks().begin(), model.blocks().end());
  assign_groups(model.parameters(), blocks, options_.optimizer);
  data_parallel_ = std::make_unique<parallel::DataParallel>(
      model, blocks,
      parallel::DataParallelOptions{.dtype = compute_dtype(options_.precision),
                                    .zero = static_cast<int>(options_.parallel.zero),
                                    .strict = strict},
      mesh_.dp(), tensor_.get());
  optimizer_ = std::make_unique<Optimizer>(*data_parallel_, mesh_, options_.optimizer);
  if (options_.precision == Precision::fp16) loss_scale_.scale = 65536.0;
}

BatchShare batch_share(std::int64_t global_batch, std::int64_t ranks, std::int64_t rank, bool strided) {
  if (global_batch % ranks != 0)
    fail_user(
        "train.global_batch: {} sequences cannot be shared by {} ranks along dp; choose a multiple of {} or start "
        "another number of ranks",
        global_batch, ranks, ranks);
  if (strided) return {rank, global_batch / ranks, ranks};
  return {global_batch / ranks * rank, global_batch / ranks, 1};
}

BatchShare TrainStep::share_of(std::int64_t global_batch) const {
  // Where gradients are reduced after each sequence, the tree's lowest levels lie over the ranks.
  const auto share =
      batch_share(global_batch, mesh_.dp().size(), mesh_.dp().rank(), options_.strict && data_parallel_->zero() >= 2);
  if (options_.strict && (global_batch & (global_batch - 1)) != 0)
    fail_user("train.global_batch: {}: train.strict adds gradients up in a binary tree: expected a power of two",
              global_batch);
  return share;
}

void TrainStep::set_masters(const std::function<void(const StateSlice&)>& fill) {
  optimizer_->set_masters(fill);
  shared_values();  // waits: who fills the masters next finds no gather that reads them
}

void TrainStep::initialise(std::uint64_t seed) {
  set_masters([&](const StateSlice& slice) { nn::initialise(*slice.parameter, seed, slice.tensor, slice.first); });
  for (auto* p : model_.parameters())
    if (!p->trainable) nn::initialise(*p, seed, p->value);
}

void TrainStep::load_weights(const std::filesystem::path& dir) {
  const auto files = load_model_tensors(dir, expected_weights(model_));
  set_masters(
      [&](const StateSlice& slice) { read_part(files, slice.name, *slice.parameter, slice.tensor, slice.first); });
  for (auto* p : model_.parameters())
    if (!p->trainable) read_part(files, p->path, *p, p->value);
}

void TrainStep::restore(const std::filesystem::path& checkpoint) {
  require_same_model(checkpoint, model_.config());
  load_weights(checkpoint);
  std::vector<ExpectedTensor> expected;
  for (const auto& part : optimizer_state()) expected.push_back({part.name, part.global});
  const auto files = load_optimizer_tensors(checkpoint, expected);
  const auto read = [&](const StateSlice& slice, const std::string& name) {
    read_part(files, name, *slice.parameter, slice.tensor, slice.first);
  };
  for (const auto& slice : optimizer_->moments()) read(slice, slice.name);
  if (optimizer_->has_masters()) set_masters([&](const StateSlice& slice) { read(slice, slice.name + ".master"); });
}

std::vector<Tensor> TrainStep::shared_values() {
  std::vector<Tensor> values;
  for (const auto& bucket : data_parallel_->buckets()) {
    if (data_parallel_->values_are_whole() || bucket == data_parallel_->buckets().back()) bucket->need_values();
  }
  for (const auto* p : model_.parameters())
    if (p->value.defined()) values.push_back(p->value.detached());
  return values;
}

TensorPart TrainStep::part_of(const std::string& name, const nn::Parameter& parameter, Dtype dtype,
                              const std::map<std::string, StateSlice>& slices) const {
  TensorPart part{name, dtype, parameter.global, {}};
  const auto found = slices.find(name);
  if (found == slices.end() || !parameter.primary) return part;
  // Where all ranks along dp hold an element, each writes its share.
  const auto& slice = found->second;
  const auto share = data_parallel_->share_of(parameter);
  const std::int64_t begin = std::max(share.begin, slice.first);
  const std::int64_t end = std::min(share.begin + share.count, slice.first + slice.tensor.count());
  if (begin < end) {
    const auto own = [&](const Tensor& all) { return all.narrow(0, begin - slice.first, end - begin); };
    part.pieces.push_back(piece_of(parameter, own(slice.tensor), begin));
    if (slice.low.defined()) part.pieces.back().low = own(slice.low);
  }
  return part;
}

std::vector<TensorPart> TrainStep::weights() const {
  auto slices = by_name(optimizer_->values());
  for (auto* p : model_.parameters())
    if (!p->trainable) slices.emplace(p->path, StateSlice{p->path, p, 0, p->value.detached().view({p->value.count()})});
  std::vector<TensorPart> parts;
  for (const auto* p : model_.parameters())
    parts.push_back(part_of(p->path, *p, compute_dtype(options_.precision), slices));
  return parts;
}

std::vector<TensorPart> TrainStep::optimizer_state() const {
  auto slices = by_name(optimizer_->moments());
  slices.merge(by_name(optimizer_->masters()));
  std::vector<TensorPart> parts;
  for (const auto* p : model_.parameters()) {
    if (!p->trainable) continue;
    for (const auto& [suffix, dtype] : optimizer_->state_names(*p))
      parts.push_back(part_of(p->path + suffix, *p, dtype, slices));
  }
  return parts;
}

double TrainStep::micro_batch_loss(const data::Batch& part, double grad_scale, StepResult& result) {
  Clock clock;
  const auto forward = [&] {
    const OpSection section("forward");
    const autograd::KeepResults keep(options_.recompute == Recompute::none);
    const auto input = model_input(part);
    return model_.loss(input.tokens, input.labels, input.loss_weight, static_cast<float>(grad_scale), input.context);
  };
  const Tensor loss = forward();
  const double value = loss.item();
  result.forward_ms += clock.lap();
  const OpSection section("backward");
  autograd::backward(loss);
  result.backward_ms += clock.lap();
  return value;
}

double TrainStep::sum_over_batch(std::span<const double> of_micro_batches) const {
  auto& dp = mesh_.dp();
  const auto ranks = static_cast<std::size_t>(dp.size());
  auto& stream = default_stream({});
  std::vector<double> mine(of_micro_batches.begin(), of_micro_batches.end());
  if (!options_.strict) mine = {std::accumulate(mine.begin(), mine.end(), 0.0)};
  std::vector<double> all(mine.size() * ranks);
  dp.all_gather(comm::ConstBuffer{mine.data(), std::ssize(mine), Dtype::f64, {}},
                comm::Buffer{all.data(), std::ssize(all), Dtype::f64, {}}, stream)
      .wait_host();
  // In strict mode one for each sequence, added in the order of the batch.
  const bool contiguous = share_of(std::ssize(all)).stride == 1;
  const auto place = [&](std::size_t i) { return contiguous ? i : i % mine.size() * ranks + i / mine.size(); };
  std::vector<double> ordered(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) ordered[options_.strict ? place(i) : i] = all[i];
  return std::accumulate(ordered.begin(), ordered.end(), 0.0);
}

StepResult TrainStep::run(const data::Batch& batch, std::int64_t micro_batch, std::int64_t step, double lr) {
  StepResult result;
  if (options_.strict) micro_batch = 1;
  std::vector<double> weights, losses;
  for (std::int64_t first = 0; first < batch.sequences; first += micro_batch)
    weights.push_back(batch.slice(first, std::min(micro_batch, batch.sequences - first)).weight_sum);
  result.labels = sum_over_batch(weights);
  const double divisor = std::max(result.labels, 1.0);

  for (std::int64_t first = 0; first < batch.sequences; first += micro_batch) {
    const std::int64_t count = std::min(micro_batch, batch.sequences - first);
    data_parallel_->begin_micro_batch(first == 0, first + count == batch.sequences);
    losses.push_back(micro_batch_loss(batch.slice(first, count), loss_scale_.scale / divisor, result));
    result.comm_exposed_ms += data_parallel_->finish_micro_batch();
  }
  result.loss = sum_over_batch(losses) / divisor;
  if (!std::isfinite(result.loss)) {
    // The rank whose loss it is reports; the others wait to be ended with it.
    if (std::all_of(losses.begin(), losses.end(), [](double loss) { return std::isfinite(loss); }))
      mesh_.world().barrier(default_stream({})).wait_host();
    report_bad_loss(batch, step);
  }

  Clock clock;
  const OpSection section("optimizer");
  const double norm = std::sqrt(optimizer_->squared_norm(options_.strict)) / loss_scale_.scale;
  result.grad_norm = norm;
  result.skipped = options_.precision == Precision::fp16 && !std::isfinite(norm);
  if (!std::isfinite(norm) && !result.skipped) report_bad_gradient(step);
  if (!result.skipped) {
    const double most = options_.optimizer.grad_clip;
    const double clip = most > 0 && norm > most ? most / norm : 1.0;
    optimizer_->update(step, lr, clip / loss_scale_.scale);
  }
  if (options_.precision == Precision::fp16) loss_scale_.update(result.skipped);
  result.optimizer_ms = clock.lap();
  return result;
}

void TrainStep::report_bad_gradient(std::int64_t step) {
  if (const auto* p = optimizer_->bad_gradient())
    fail(
        "step {}, rank {}: the gradient is not finite; first bad tensor: gradient of {}; lower optimizer.lr, or look "
        "at "
        "the data of this step",
        step, mesh_.world().rank(), p->path);
  mesh_.world().barrier(default_stream({})).wait_host();  // until the rank that holds it ends all
  fail("step {}, rank {}: the gradient's norm is not finite", step, mesh_.world().rank());
}

void TrainStep::report_bad_loss(const data::Batch& batch, std::int64_t step) {
  const auto where = [&](const std::string& tensor) {
    fail(
        "step {}, rank {}: the loss is not finite; first bad tensor: {}; lower optimizer.lr, or start from an earlier "
        "checkpoint",
        step, mesh_.world().rank(), tensor);
  };
  for (const auto& value : optimizer_->values())
    if (!finite(value.tensor)) where(value.name);
  // Other ranks don't come along, so only a whole model can look at its activations.
  if (!data_parallel_->values_are_whole() || mesh_.tp().size() > 1) where("none among this rank's weights");
  // The weights are sound: run forward again and look at what each module gives.
  const autograd::NoGrad guard;
  model_.visit([&](nn::Module& module) {
    module.wrap([&](const Tensor& x, const nn::Module::Next& next) {
      Tensor y = next(x);
      if (!finite(y)) where("the output of " + (module.path().empty() ? "the model" : module.path()));
      return y;
    });
  });
  for (std::int64_t i = 0; i < batch.sequences; ++i) {
    const auto input = model_input(batch.slice(i, 1));
    model_.loss(input.tokens, input.labels, input.loss_weight, 1.0f, input.context);
  }
  where("the loss itself");
  std::abort();  // not reached: where() throws
}

}  // namespace dujiang::train
