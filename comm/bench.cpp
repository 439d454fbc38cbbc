#include "comm/bench.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "comm/mpi/mpi_communicator.h"
#include "comm/mpi/mpi_plain.h"
#include "framework/base/allocator.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What rank `rank` contributes at `index`: small integers, so that sums are exact in bf16 for up to 64 ranks.
float value_at(int rank, std::int64_t index) {
  return static_cast<float>((index + rank) % 4);
}

void put(void* data, Dtype dtype, std::int64_t i, float value) {
  if (dtype == Dtype::f32) {
    static_cast<float*>(data)[i] = value;
  } else {
    static_cast<bf16*>(data)[i] = bf16(value);
  }
}

float get(const void* data, Dtype dtype, std::int64_t i) {
  return dtype == Dtype::f32 ? static_cast<const float*>(data)[i] : float(static_cast<const bf16*>(data)[i]);
}

}  // namespace

double BenchRow::busbw_gbs(int ranks) const {
  const double share = static_cast<double>(ranks - 1) / ranks;
  switch (op) {
    case Op::all_reduce:
      return algbw_gbs() * 2 * share;
    case Op::reduce_scatter:
    case Op::all_gather:
    case Op::all_to_all:
      return algbw_gbs() * share;
    default:
      return algbw_gbs();
  }
}

// The buffers of one row.
struct CommBench::Memory {
  std::shared_ptr<void> send, receive;
  Request request;
  std::vector<std::int64_t> counts;

  Memory(Communicator& c, Op op, Dtype dtype, std::int64_t bytes, bool allocated) {
    const std::int64_t p = c.size();
    const bool in_place = op == Op::all_reduce || op == Op::reduce || op == Op::broadcast;
    const std::int64_t each = std::max<std::int64_t>(bytes / static_cast<std::int64_t>(size_of(dtype)) / p, 1);
    const std::int64_t whole =
        in_place ? std::max<std::int64_t>(bytes / static_cast<std::int64_t>(size_of(dtype)), 1) : each * p;
    const auto memory = [&](std::int64_t count) {
      const std::size_t n = static_cast<std::size_t>(count) * size_of(dtype);
      auto m = allocated ? c.allocate(n) : std::shared_ptr<void>(std::malloc(n), std::free);
      DUJIANG_CHECK(m, "no memory for {} bytes", n);
      std::memset(m.get(), 0, n);
      return m;
    };
    const std::int64_t sent = op == Op::all_gather ? each : whole;
    const std::int64_t received = op == Op::reduce_scatter ? each : whole;
    send = memory(sent);
    receive = in_place ? send : memory(received);
    request.op = op;
    request.send = {send.get(), sent, dtype};
    request.receive = {receive.get(), received, dtype, {}};
    if (op == Op::all_to_all) counts.assign(static_cast<std::size_t>(p), each);
    request.send_counts = request.receive_counts = counts;
    for (std::int64_t i = 0; i < sent; ++i) put(send.get(), dtype, i, value_at(c.rank(), i));
  }

  Work start(Communicator& c, Stream& stream) const {
    const Request& q = request;
    switch (q.op) {
      case Op::all_reduce:
        return c.all_reduce(q.receive, Reduce::sum, stream);
      case Op::reduce_scatter:
        return c.reduce_scatter(q.send, q.receive, Reduce::sum, stream);
      case Op::all_gather:
        return c.all_gather(q.send, q.receive, stream);
      case Op::broadcast:
        return c.broadcast(q.receive, 0, stream);
      case Op::reduce:
        return c.reduce(q.receive, Reduce::sum, 0, stream);
      case Op::all_to_all:
        return c.all_to_all(q.send, q.receive, {counts, counts}, stream);
      default:
        fail("bench comm: no {}", name_of(q.op));
    }
  }

  // Elements that one run from fresh data left wrong.
  std::int64_t wrong(const Communicator& c) const {
    const Request& q = request;
    if (q.op == Op::reduce && c.rank() != 0) return 0;
    const std::int64_t each = q.op == Op::all_gather ? q.send.count : q.receive.count / c.size();
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < q.receive.count; ++i) {
      float expected = 0;
      const std::int64_t at = q.op == Op::reduce_scatter ? c.rank() * q.receive.count + i : i;
      if (q.op == Op::broadcast) {
        expected = value_at(0, i);
      } else if (q.op == Op::all_gather) {
        expected = value_at(static_cast<int>(i / each), i % each);
      } else if (q.op == Op::all_to_all) {
        expected = value_at(static_cast<int>(i / each), c.rank() * each + i % each);
      } else {
        for (int r = 0; r < c.size(); ++r) expected += value_at(r, at);
      }
      if (get(q.receive.data, q.receive.dtype, i) != expected) ++count;
    }
    return count;
  }
};

CommBench::CommBench(Communicator& communicator) : communicator_(communicator), session_(mpi_session_of(communicator)) {
  copy_gbs_ = measure_copy();
}

double CommBench::slowest(double seconds) {
  communicator_.all_reduce({&seconds, 1, Dtype::f64, {}}, Reduce::max, stream_).wait_host();
  return seconds;
}

double CommBench::measure_copy() {
  const std::size_t bytes = std::size_t{128} << 20;
  const auto a = allocate_host(bytes), b = allocate_host(bytes);
  std::memset(a.get(), 1, bytes);
  double best = std::numeric_limits<double>::max();
  for (int i = 0; i < 6; ++i) {
    communicator_.barrier(stream_).wait_host();
    const auto start = Clock::now();
    std::memcpy(b.get(), a.get(), bytes);
    best = std::min(best, slowest(since(start)));
  }
  return 2e-9 * static_cast<double>(bytes) * communicator_.size() / best;
}

BenchRow CommBench::run(Op op, Dtype dtype, std::int64_t bytes, bool allocated, double budget) {
  Memory memory(communicator_, op, dtype, bytes, allocated);
  const Request& q = memory.request;
  BenchRow row{.op = op, .dtype = dtype, .allocated = allocated};
  row.bytes = std::max(q.send.count, q.receive.count) * static_cast<std::int64_t>(size_of(dtype));

  memory.start(communicator_, stream_).wait_host();
  double wrong = static_cast<double>(memory.wrong(communicator_));
  communicator_.all_reduce({&wrong, 1, Dtype::f64, {}}, Reduce::sum, stream_).wait_host();
  row.wrong = static_cast<std::int64_t>(wrong);
  std::memset(memory.send.get(), 0, static_cast<std::size_t>(q.send.count) * size_of(dtype));  // repeated sums stay 0

  const int times = row.bytes <= 4096 ? 200 : row.bytes <= (64 << 10) ? 50 : row.bytes <= (1 << 20) ? 10 : 1;
  const bool beside_mpi = session_ != nullptr && plain_mpi_supports(op, dtype);
  row.seconds = row.mpi_seconds = std::numeric_limits<double>::max();
  double spent = 0;
  for (int i = 0; i < 5 || spent < budget; ++i) {
    communicator_.barrier(stream_).wait_host();
    auto start = Clock::now();
    for (int k = 0; k < times; ++k) memory.start(communicator_, stream_).wait_host();
    const double ours = slowest(since(start));
    row.seconds = std::min(row.seconds, ours / times);
    spent += ours;
    if (!beside_mpi) continue;
    communicator_.barrier(stream_).wait_host();
    const double theirs = slowest(run_plain_mpi(*session_, q, times));
    row.mpi_seconds = std::min(row.mpi_seconds, theirs / times);
  }
  if (!beside_mpi) row.mpi_seconds = 0;
  // On every rank: what is read and written, each at least once.
  const double p = communicator_.size(), whole = static_cast<double>(row.bytes);
  const double crossing = op == Op::all_reduce       ? 2 * p * whole
                          : op == Op::reduce         ? (p + 1) * whole
                          : op == Op::reduce_scatter ? (p + 1) * whole
                          : op == Op::broadcast      ? 2 * (p - 1) * whole
                                                     : 2 * p * whole;
  row.limit_seconds = crossing / (copy_gbs_ * 1e9);
  return row;
}

}  // namespace dujiang::comm
