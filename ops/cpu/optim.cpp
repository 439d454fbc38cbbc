#include "ops/optim.h"

#include <algorithm>

#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/optim_simd.h"

namespace dujiang::ops::cpu {
namespace {

void adamw(Stream&, const View& master, const View& m, const View& v, const View& grad, const View& param,
           const AdamwStep& step) {
  bool ok = master.shape.rank() == 1;
  for (const View* view : {&master, &m, &v, &grad})
    ok = ok && view->dtype == Dtype::f32 && view->shape == master.shape && view->contiguous();
  if (param.defined()) ok = ok && is_half(param.dtype) && param.shape == master.shape && param.contiguous();
  check_arguments(ok, "adamw", "master, m, v, grad contiguous f32 [n], param contiguous bf16 or f16 [n] or none",
                  {{"master", master}, {"m", m}, {"v", v}, {"grad", grad}, {"param", param}});
  const auto kernel = adamw_table().update[param.defined() ? index_of(param.dtype) : 0];
  constexpr std::int64_t block = 1024;  // threads meet at multiples of it, so vectors stay whole
  const std::int64_t n = master.count();
  parallel_ranges((n + block - 1) / block, 16, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t begin = first * block, end = std::min(last * block, n);
    kernel({.master = master.as<float>() + begin,
            .m = m.as<float>() + begin,
            .v = v.as<float>() + begin,
            .grad = grad.as<float>() + begin,
            .param = param.defined() ? static_cast<char*>(param.data) + begin * 2 : nullptr,
            .n = end - begin,
            .decay = 1 - step.lr * step.weight_decay,
            .beta1 = step.beta1,
            .one_less_beta1 = 1 - step.beta1,
            .beta2 = step.beta2,
            .one_less_beta2 = 1 - step.beta2,
            .step_size = step.lr / step.bias_correction1,
            .inverse_correction2 = 1 / step.bias_correction2,
            .eps = step.eps,
            .grad_scale = step.grad_scale});
  });
}

[[maybe_unused]] const bool registered = ops::adamw.add(DeviceType::cpu, adamw);

}  // namespace
}  // namespace dujiang::ops::cpu
