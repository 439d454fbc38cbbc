#include "ops/optim.h"

#include <algorithm>

#include "framework/base/threads.h"
#include "ops/cpu/arguments.h"
#include "ops/cpu/optim_simd.h"

namespace dujiang::ops::cpu {
namespace {

constexpr std::int64_t block = 1024;  // threads meet at multiples of it, so vectors stay whole

bool flat(const View& view, Dtype dtype, std::int64_t n) {
  return view.dtype == dtype && view.shape == Shape{n} && view.contiguous();
}

// body(begin, end) over [0, n) on all threads.
template <class Body>
void sweep_blocks(std::int64_t n, Body&& body) {
  parallel_ranges((n + block - 1) / block, 16,
                  [&](std::int64_t first, std::int64_t last) { body(first * block, std::min(last * block, n)); });
}

void adamw(Stream&, const View& master, const View& m, const View& v, const View& grad, const View& param,
           const AdamwStep& step) {
  const std::int64_t n = master.count();
  const bool split = master.dtype == Dtype::u16;
  const Dtype moment = m.dtype == Dtype::bf16 ? Dtype::bf16 : Dtype::f32;
  bool ok = flat(master, split ? Dtype::u16 : Dtype::f32, n) && flat(m, moment, n) && flat(v, moment, n) &&
            flat(grad, Dtype::f32, n);
  if (split || param.defined()) ok = ok && flat(param, split ? Dtype::bf16 : Dtype::f16, n);
  check_arguments(ok, "adamw",
                  "all contiguous [n], grad f32, m and v both f32 or both bf16, master f32 and param f16 or none, or "
                  "master u16 and param bf16",
                  {{"master", master}, {"m", m}, {"v", v}, {"grad", grad}, {"param", param}});
  const auto& table = optim_table();
  const auto& by_moment = split ? table.adamw_split : param.defined() ? table.adamw_copied : table.adamw;
  const auto kernel = by_moment[moment == Dtype::bf16];
  const auto of = [](const View& view, std::int64_t at) {
    return static_cast<char*>(view.data) + at * static_cast<std::int64_t>(size_of(view.dtype));
  };
  sweep_blocks(n, [&](std::int64_t begin, std::int64_t end) {
    kernel({.master = of(master, begin),
            .m = of(m, begin),
            .v = of(v, begin),
            .grad = grad.as<float>() + begin,
            .param = param.defined() ? of(param, begin) : nullptr,
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

void check_halves(const char* op, const View& x, const View& high, const View& low) {
  const std::int64_t n = x.count();
  check_arguments(flat(x, Dtype::f32, n) && flat(high, Dtype::bf16, n) && flat(low, Dtype::u16, n), op,
                  "x f32, high bf16, low u16, all contiguous [n]", {{"x", x}, {"high", high}, {"low", low}});
}

std::uint16_t* halves(const View& view) {
  return static_cast<std::uint16_t*>(view.data);
}

void split_f32(Stream&, const View& x, const View& high, const View& low) {
  check_halves("split_f32", x, high, low);
  sweep_blocks(x.count(), [&](std::int64_t begin, std::int64_t end) {
    optim_table().split_f32(x.as<float>() + begin, halves(high) + begin, halves(low) + begin, end - begin);
  });
}

void join_f32(Stream&, const View& high, const View& low, const View& x) {
  check_halves("join_f32", x, high, low);
  sweep_blocks(x.count(), [&](std::int64_t begin, std::int64_t end) {
    optim_table().join_f32(halves(high) + begin, halves(low) + begin, x.as<float>() + begin, end - begin);
  });
}

[[maybe_unused]] const bool registered = ops::adamw.add(DeviceType::cpu, adamw) &&
                                         ops::split_f32.add(DeviceType::cpu, split_f32) &&
                                         ops::join_f32.add(DeviceType::cpu, join_f32);

}  // namespace
}  // namespace dujiang::ops::cpu
