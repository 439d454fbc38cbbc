#include "ops/cpu/gemm.h"

#include <array>
#include <dnnl.hpp>
#include <list>
#include <memory>
#include <unordered_map>

#include "framework/base/allocator.h"
#include "framework/base/check.h"
#include "framework/base/rehearsal.h"
#include "framework/base/threads.h"
#include "ops/cpu/isa.h"

namespace dujiang::ops::cpu {
namespace {

const dnnl::engine& engine() {
  static const dnnl::engine cpu = [] {
    // oneDNN must be capped before its first use.
    switch (isa()) {
      case Isa::baseline:
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::sse41);
        break;
      case Isa::avx2:
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
        break;
      case Isa::avx512:
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core);
        break;
      case Isa::avx512_bf16:
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_bf16);
        break;
      case Isa::amx:
        break;
    }
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return cpu;
}

dnnl::memory::data_type type_of(Dtype dtype) {
  return dtype == Dtype::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

/// Everything that a primitive is made for: sizes, strides, dtypes, accumulation, threads.
using Key = std::array<std::int64_t, 17>;
struct KeyHash {
  std::size_t operator()(const Key& key) const {
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (auto word : key) hash = (hash ^ static_cast<std::uint64_t>(word)) * 0x100000001b3u;
    return hash ^ (hash >> 32);
  }
};

struct Product {
  Key key;
  dnnl::matmul primitive;
  dnnl::memory a, b, c;
  dnnl::memory::desc scratchpad;
};

/// A primitive's description and those of its operands.
struct Plan {
  dnnl::memory::desc a, b, c;
  dnnl::matmul::primitive_desc primitive;
};

Plan plan(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k, const GemmOperand& a,
          const GemmOperand& b, const GemmOperand& c, bool accumulate) {
  auto desc = [&](const GemmOperand& operand, std::int64_t rows, std::int64_t columns) {
    return count == 1 ? dnnl::memory::desc({rows, columns}, type_of(operand.dtype), {operand.row, operand.column})
                      : dnnl::memory::desc({count, rows, columns}, type_of(operand.dtype),
                                           {operand.batch, operand.row, operand.column});
  };
  const auto da = desc(a, m, k), db = desc(b, k, n), dc = desc(c, m, n);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  return {da, db, dc, dnnl::matmul::primitive_desc(dnnl::matmul::desc(da, db, dc), attributes, engine())};
}

Product make(const Key& key, const Plan& plan) {
  return {key,
          dnnl::matmul(plan.primitive),
          dnnl::memory(plan.a, engine(), nullptr),
          dnnl::memory(plan.b, engine(), nullptr),
          dnnl::memory(plan.c, engine(), nullptr),
          plan.primitive.scratchpad_desc()};
}

class Products {
 public:
  template <class Make>
  Product& get(const Key& key, Make&& make) {
    if (const auto found = index_.find(key); found != index_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return recent_.front();
    }
    if (recent_.size() == capacity) {
      index_.erase(recent_.back().key);
      recent_.pop_back();
    }
    recent_.push_front(make());
    index_.emplace(key, recent_.begin());
    return recent_.front();
  }

 private:
  static constexpr std::size_t capacity = 128;
  std::list<Product> recent_;  // the most recent first
  std::unordered_map<Key, std::list<Product>::iterator, KeyHash> index_;
};

}  // namespace

void onednn_gemm(std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k, const GemmOperand& a,
                 const GemmOperand& b, const GemmOperand& c, bool accumulate) {
  thread_local Products products;
  const Key key{count,
                m,
                n,
                k,
                a.batch,
                a.row,
                a.column,
                b.batch,
                b.row,
                b.column,
                c.batch,
                c.row,
                c.column,
                static_cast<std::int64_t>(a.dtype),
                static_cast<std::int64_t>(c.dtype),
                accumulate,
                thread_count()};
  try {
    if (Rehearsal::loops() == Rehearsal::Loops::none) {  // the memory without the code, whose generation takes long
      thread_local std::unordered_map<Key, std::size_t, KeyHash> scratchpads;
      auto found = scratchpads.find(key);
      if (found == scratchpads.end())
        found =
            scratchpads.emplace(key, plan(count, m, n, k, a, b, c, accumulate).primitive.scratchpad_desc().get_size())
                .first;
      allocate_host(found->second);
      return;
    }
    Product& product = products.get(key, [&] { return make(key, plan(count, m, n, k, a, b, c, accumulate)); });
    thread_local dnnl::stream stream(engine());
    product.a.set_data_handle(a.data, stream);
    product.b.set_data_handle(b.data, stream);
    product.c.set_data_handle(c.data, stream);
    const std::shared_ptr<void> scratch = allocate_host(product.scratchpad.get_size());
    product.primitive.execute(stream,
                              {{DNNL_ARG_SRC, product.a},
                               {DNNL_ARG_WEIGHTS, product.b},
                               {DNNL_ARG_DST, product.c},
                               {DNNL_ARG_SCRATCHPAD, dnnl::memory(product.scratchpad, engine(), scratch.get())}});
    stream.wait();
  } catch (const dnnl::error& error) {
    fail("op matmul: oneDNN refuses {} x [{}, {}] · [{}, {}] of {} into {}: {}", count, m, k, k, n, name_of(a.dtype),
         name_of(c.dtype), error.what());
  }
}

}  // namespace dujiang::ops::cpu
