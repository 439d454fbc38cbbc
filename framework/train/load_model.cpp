#include "framework/train/load_model.h"

#include "framework/train/checkpoint.h"

namespace dujiang::train {

std::unique_ptr<models::Qwen3> load_model(const std::filesystem::path& dir, Dtype dtype) {
  auto model = std::make_unique<models::Qwen3>(models::from_hf_json(dir / "config.json"));
  const auto parameters = model->parameters();
  std::vector<ExpectedTensor> expected;
  for (const auto* p : parameters) expected.push_back({p->path, p->global});
  const auto files = load_model_tensors(dir, expected);
  for (auto* p : parameters) {
    p->value = Tensor::empty(p->shape, dtype);
    files.read_into(p->path, p->value);
  }
  return model;
}

}  // namespace dujiang::train
