#include "framework/train/evaluate.h"

#include <algorithm>
#include <numbers>

#include "framework/train/train_step.h"

namespace dujiang::train {
namespace {

double batch_nll(models::Qwen3& model, const data::Batch& batch) {
  const autograd::NoGrad guard;
  const auto input = model_input(batch);
  return model.loss(input.tokens, input.labels, input.loss_weight, 1.0f, input.context).item();
}

// Windows of one document are segments of a batch of one row.
class WindowBatch {
 public:
  void add(std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels, std::size_t scored) {
    if (batch_.segments.empty()) batch_.segments.push_back(0);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const bool counts = i + scored >= tokens.size();
      batch_.tokens.push_back(tokens[i]);
      batch_.labels.push_back(counts ? labels[i] : data::no_label);
      batch_.loss_weight.push_back(counts ? 1.0f : 0.0f);
      batch_.positions.push_back(static_cast<std::int32_t>(i));
    }
    batch_.segments.push_back(static_cast<std::int32_t>(batch_.tokens.size()));
  }
  std::int64_t windows() const { return std::max<std::int64_t>(0, std::ssize(batch_.segments) - 1); }
  double flush(models::Qwen3& model) {
    if (windows() == 0) return 0;
    batch_.sequences = 1;
    batch_.length = std::ssize(batch_.tokens);
    const double nll = batch_nll(model, batch_);
    batch_ = {};
    return nll;
  }

 private:
  data::Batch batch_;
};

}  // namespace

double evaluate_split(models::Qwen3& model, data::EvalReader& reader, std::int64_t batches,
                      comm::Communicator& communicator) {
  double sums[2] = {0, 0};
  data::Batch batch;
  reader.rewind();
  for (std::int64_t i = 0; (batches == 0 || i < batches) && reader.next(batch); ++i) {
    sums[0] += batch_nll(model, batch);
    sums[1] += batch.weight_sum;
  }
  communicator.all_reduce(comm::Buffer{sums, 2, Dtype::f64, {}}, comm::Reduce::sum, default_stream({})).wait_host();
  return sums[0] / std::max(sums[1], 1.0);
}

double TextScore::nll_per_token() const {
  return nll / static_cast<double>(std::max<std::int64_t>(tokens, 1));
}
double TextScore::bits_per_byte() const {
  return nll / std::numbers::ln2 / static_cast<double>(std::max<std::int64_t>(bytes, 1));
}
double TextScore::bits_per_char() const {
  return nll / std::numbers::ln2 / static_cast<double>(std::max<std::int64_t>(characters, 1));
}

TextScore score_texts(models::Qwen3& model, const data::Tokenizer& tokenizer, std::span<const std::string> documents,
                      const TextScoreOptions& options, const std::function<void(std::size_t)>& progress) {
  if (tokenizer.vocab_size() > model.config().vocab_size)
    fail_user("the tokenizer has {} tokens, the model {}: they do not belong together", tokenizer.vocab_size(),
              model.config().vocab_size);
  const auto longest = static_cast<std::size_t>(model.config().max_position_embeddings);
  const std::size_t window = options.window > 0 ? std::min<std::size_t>(options.window, longest) : longest;
  const std::size_t stride =
      options.stride > 0 ? std::min<std::size_t>(options.stride, window) : std::max<std::size_t>(window / 2, 1);
  const std::int32_t start = tokenizer.eos_id() >= 0 ? tokenizer.eos_id() : tokenizer.bos_id();
  TextScore score;
  WindowBatch pending;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const auto& text = documents[d];
    std::vector<std::int32_t> ids = tokenizer.encode(text);
    score.bytes += std::ssize(text);
    score.characters += std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
    if (start >= 0) ids.insert(ids.begin(), start);
    if (ids.size() < 2) continue;
    const std::size_t labels = ids.size() - 1;  // ids[i] predicts ids[i + 1]
    score.tokens += static_cast<std::int64_t>(labels);
    for (std::size_t done = 0; done < labels;) {
      const std::size_t end = done == 0 ? std::min(window, labels) : std::min(done + stride, labels);
      const std::size_t begin = end > window ? end - window : 0;
      const std::span all(ids);
      pending.add(all.subspan(begin, end - begin), all.subspan(begin + 1, end - begin), end - done);
      done = end;
      if (pending.windows() >= options.batch) score.nll += pending.flush(model);
    }
    if (progress) progress(d + 1);
  }
  score.nll += pending.flush(model);
  return score;
}

}  // namespace dujiang::train
