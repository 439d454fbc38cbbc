#include "framework/train/train_step.h"

#include <chrono>
#include <cmath>

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

std::unique_ptr<parallel::DataParallel> make_data_parallel(models::Qwen3& model, comm::Communicator& communicator,
                                                           const OptimizerSection& optimizer, Dtype dtype) {
  const auto parameters = model.parameters();
  assign_groups(parameters, optimizer);
  const std::vector<nn::Module*> blocks(model.blocks().begin(), model.blocks().end());
  return std::make_unique<parallel::DataParallel>(model, blocks, dtype, communicator);
}

std::vector<ExpectedTensor> expected_weights(models::Qwen3& model) {
  std::vector<ExpectedTensor> expected;
  for (const auto* p : model.parameters()) expected.push_back({p->path, p->shape});
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

TrainStep::TrainStep(models::Qwen3& model, comm::Communicator& communicator, const OptimizerSection& optimizer,
                     Precision precision)
    : model_(model),
      communicator_(communicator),
      section_(optimizer),
      precision_(precision),
      data_parallel_(make_data_parallel(model, communicator, optimizer, compute_dtype(precision))),
      optimizer_(data_parallel_->buckets(), optimizer) {
  if (precision == Precision::fp16) loss_scale_.scale = 65536.0;
}

void TrainStep::initialise(std::uint64_t seed) {
  optimizer_.for_each_master([&](const nn::Parameter& p, const Tensor& master) { nn::initialise(p, seed, master); });
  optimizer_.publish();
  for (auto* p : model_.parameters())
    if (!p->trainable) nn::initialise(*p, seed, p->value);
}

void TrainStep::load_weights(const std::filesystem::path& dir) {
  const auto files = load_model_tensors(dir, expected_weights(model_));
  optimizer_.for_each_master([&](const nn::Parameter& p, const Tensor& master) { files.read_into(p.path, master); });
  optimizer_.publish();
  for (auto* p : model_.parameters())
    if (!p->trainable) files.read_into(p->path, p->value);
}

void TrainStep::restore(const std::filesystem::path& checkpoint) {
  require_same_model(checkpoint, model_.config());
  load_weights(checkpoint);
  const auto state = optimizer_.state();
  std::vector<ExpectedTensor> expected;
  for (const auto& [name, tensor] : state) expected.push_back({name, tensor.shape()});
  const auto files = load_optimizer_tensors(checkpoint, expected);
  for (const auto& [name, tensor] : state) files.read_into(name, tensor);
  optimizer_.publish();
}

std::vector<NamedTensor> TrainStep::weights() const {
  std::vector<NamedTensor> all;
  for (const auto* p : model_.parameters()) all.push_back({p->path, p->value.detached()});
  return all;
}

double TrainStep::micro_batch_loss(const data::Batch& part, double grad_scale, StepResult& result) {
  Clock clock;
  const auto input = model_input(part);
  const Tensor loss =
      model_.loss(input.tokens, input.labels, input.loss_weight, static_cast<float>(grad_scale), input.context);
  const double value = loss.item();
  result.forward_ms += clock.lap();
  autograd::backward(loss);
  result.backward_ms += clock.lap();
  return value;
}

StepResult TrainStep::run(const data::Batch& batch, std::int64_t micro_batch, std::int64_t step, double lr) {
  StepResult result;
  auto& stream = default_stream({});
  double labels = batch.weight_sum;
  communicator_.all_reduce(comm::Buffer{&labels, 1, Dtype::f64, {}}, comm::Reduce::sum, stream).wait_host();
  result.labels = labels;
  const double divisor = std::max(labels, 1.0);

  double local_loss = 0;
  for (std::int64_t first = 0; first < batch.sequences; first += micro_batch) {
    const std::int64_t count = std::min(micro_batch, batch.sequences - first);
    data_parallel_->begin_micro_batch(first == 0, first + count == batch.sequences);
    local_loss += micro_batch_loss(batch.slice(first, count), loss_scale_.scale / divisor, result);
  }
  std::vector<double> losses(static_cast<std::size_t>(communicator_.size()));
  const auto gathered = communicator_.all_gather(
      comm::ConstBuffer{&local_loss, 1, Dtype::f64, {}},
      comm::Buffer{losses.data(), static_cast<std::int64_t>(losses.size()), Dtype::f64, {}}, stream);
  result.comm_exposed_ms = data_parallel_->finish();
  gathered.wait_host();
  for (const double loss : losses) result.loss += loss;
  result.loss /= divisor;
  if (!std::isfinite(result.loss)) {
    // The rank whose loss it is reports; the others wait to be ended with it.
    if (std::isfinite(local_loss)) communicator_.barrier(stream).wait_host();
    report_bad_loss(batch, step);
  }

  Clock clock;
  const double norm = std::sqrt(optimizer_.squared_norm()) / loss_scale_.scale;
  result.grad_norm = norm;
  result.skipped = precision_ == Precision::fp16 && !std::isfinite(norm);
  if (!std::isfinite(norm) && !result.skipped) {
    for (const auto* p : model_.parameters()) {
      const Tensor grad = autograd::grad_of(p->value);
      if (grad.defined() && !finite(grad))
        fail(
            "step {}, rank {}: the gradient is not finite; first bad tensor: gradient of {}; lower optimizer.lr, or "
            "look at "
            "the data of this step",
            step, communicator_.rank(), p->path);
    }
    fail("step {}, rank {}: the gradient's norm overflowed", step, communicator_.rank());
  }
  if (!result.skipped) {
    const double clip = section_.grad_clip > 0 && norm > section_.grad_clip ? section_.grad_clip / norm : 1.0;
    optimizer_.update(step, lr, clip / loss_scale_.scale);
  }
  if (precision_ == Precision::fp16) loss_scale_.update(result.skipped);
  result.optimizer_ms = clock.lap();
  return result;
}

void TrainStep::report_bad_loss(const data::Batch& batch, std::int64_t step) {
  const auto where = [&](const std::string& tensor) {
    fail(
        "step {}, rank {}: the loss is not finite; first bad tensor: {}; lower optimizer.lr, or start from an earlier "
        "checkpoint",
        step, communicator_.rank(), tensor);
  };
  for (const auto* p : model_.parameters())
    if (!finite(p->value)) where(p->path);
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
