#pragma once
// Communicator: collective operations between the ranks of a group. The public front checks every request and counts
// it; a transport (self, thread, mpi, ...) implements the private do_* functions behind it.
//
// Contract of every transport
// - Operations are asynchronous: the call returns a Work, and the buffers belong to the operation until that Work has
//   been waited for. All ranks of a communicator request the same operations in the same order; across overlapping
//   communicators, in the same order too.
// - In place by NCCL's rule: all_reduce and reduce with receive == send; reduce_scatter with
//   receive == send + rank * receive.count; all_gather with send == receive + rank * send.count. Any other overlap of
//   send and receive is refused. A send buffer that isn't the receive buffer is left as it was.
// - Floating sums follow one balanced binary tree over rank numbers (split at the largest power of two below n), with
//   partials in f32 (f64 for f64), rounded once. So the bits of a result depend on the inputs and on the number of
//   ranks alone: never on timing, message size, position in the buffer or transport.
// - max and min give NaN where any rank holds NaN. Integer sums wrap around.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "framework/base/device.h"
#include "framework/base/dtype.h"
#include "framework/base/view.h"

namespace dujiang::comm {

enum class Op : std::uint8_t { all_reduce, reduce_scatter, all_gather, broadcast, reduce, barrier };
inline constexpr int op_count = 6;
enum class Reduce : std::uint8_t { sum, max, min, avg };

std::string_view name_of(Op op);
std::string_view name_of(Reduce reduce);

/// `count` contiguous elements that the caller owns, aligned to their size. Null data is allowed when count is 0.
struct Buffer {
  void* data = nullptr;
  std::int64_t count = 0;
  Dtype dtype = Dtype::f32;
  Device device;
};

struct ConstBuffer {
  const void* data = nullptr;
  std::int64_t count = 0;
  Dtype dtype = Dtype::f32;
  Device device;

  ConstBuffer() = default;
  ConstBuffer(const void* data, std::int64_t count, Dtype dtype, Device device = {})
      : data(data), count(count), dtype(dtype), device(device) {}
  ConstBuffer(const Buffer& b) : data(b.data), count(b.count), dtype(b.dtype), device(b.device) {}
};

/// The elements of a contiguous view; throws Error for any other.
Buffer buffer_of(const View& view);

/// A handle to an operation under way; copies share it. A default-made Work is complete. Dropping the last handle
/// doesn't cancel the operation, but then nobody hears of its failure.
class Work {
 public:
  /// What a transport implements. Each function may be called by any thread, any number of times.
  class State {
   public:
    virtual ~State() = default;
    virtual void wait(Stream& stream) = 0;
    virtual void wait_host() = 0;
    virtual bool query() = 0;
  };

  Work() = default;
  explicit Work(std::shared_ptr<State> state) : state_(std::move(state)) {}

  /// Makes later work on `stream` follow the operation. On a CPU stream that is wait_host().
  void wait(Stream& stream) const;
  /// Blocks until the operation is complete; throws the operation's error, if it had one, every time.
  void wait_host() const;
  /// True when waiting would not block. Never throws the operation's error.
  bool query() const;

 private:
  std::shared_ptr<State> state_;
};

/// What one communicator did with one kind of operation.
struct OpStats {
  std::uint64_t calls = 0;
  std::uint64_t bytes = 0;  ///< of the whole vector: the larger of send and receive, on each rank
  double seconds = 0;       ///< running in the transport, whether or not somebody waited; queueing excluded
};

/// Where a rank stands in its communicator and on its host.
struct Place {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  ///< among the ranks of this communicator on this host
};

class Communicator {
 public:
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  /// Waits for what is under way. While an exception unwinds, what is under way is abandoned instead (its Work throws).
  virtual ~Communicator();

  int rank() const { return place_.rank; }
  int size() const { return place_.size; }
  int local_rank() const { return place_.local_rank; }
  int local_size() const { return place_.local_size; }
  /// "self", "thread", "mpi"
  std::string_view transport() const { return transport_; }
  /// Where buffers must lie.
  Device device() const { return device_; }

  /// Every rank's buffer becomes the reduction of all of them.
  Work all_reduce(Buffer buffer, Reduce reduce, Stream& stream);
  Work all_reduce(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream);
  /// Rank r receives elements [r * n, (r + 1) * n) of the reduction; n = receive.count, send.count = size * n.
  Work reduce_scatter(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream);
  /// Everyone receives the ranks' n elements one after the other; n = send.count, receive.count = size * n.
  Work all_gather(ConstBuffer send, Buffer receive, Stream& stream);
  /// Everyone's buffer becomes the root's.
  Work broadcast(Buffer buffer, int root, Stream& stream);
  /// The root's buffer becomes the reduction; the others' stay as they are.
  Work reduce(Buffer buffer, Reduce reduce, int root, Stream& stream);
  /// `receive` is ignored except on the root.
  Work reduce(ConstBuffer send, Buffer receive, Reduce reduce, int root, Stream& stream);
  /// Complete once every rank has called it.
  Work barrier(Stream& stream);

  /// Whether a request would be taken. `reduce` counts only for operations that reduce; dtype not for a barrier.
  bool supports(Op op, Dtype dtype, Reduce reduce = Reduce::sum) const;
  /// Collective. Ranks that give the same colour form a communicator, ordered by key, then by rank here; a negative
  /// colour gets null. Blocks until everything requested before has run.
  std::unique_ptr<Communicator> split(int color, int key);

  /// A snapshot; may be taken while operations run.
  OpStats stats(Op op) const;

 protected:
  Communicator(std::string_view transport, Device device, Place place);
  /// Called by the transport when an operation has run; thread-safe.
  void add_seconds(Op op, double seconds);

 private:
  /// Requests arrive checked, with at least one element.
  virtual Work do_all_reduce(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream) = 0;
  virtual Work do_reduce_scatter(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream) = 0;
  virtual Work do_all_gather(ConstBuffer send, Buffer receive, Stream& stream) = 0;
  virtual Work do_broadcast(Buffer buffer, int root, Stream& stream) = 0;
  /// On ranks other than the root, receive.data is null.
  virtual Work do_reduce(ConstBuffer send, Buffer receive, Reduce reduce, int root, Stream& stream) = 0;
  virtual Work do_barrier(Stream& stream) = 0;
  virtual bool do_supports(Op op, Dtype dtype, Reduce reduce) const = 0;
  virtual std::unique_ptr<Communicator> do_split(int color, int key) = 0;

  struct Counter {
    std::atomic<std::uint64_t> calls{0}, bytes{0}, nanoseconds{0};
  };
  void check(Op op, ConstBuffer buffer, const char* which, Reduce reduce, const Stream& stream) const;
  void check_root(Op op, int root) const;
  void check_overlap(Op op, ConstBuffer send, ConstBuffer receive, const void* in_place) const;
  void count(Op op, ConstBuffer larger);
  std::string who(Op op) const;

  std::string_view transport_;
  Device device_;
  Place place_;
  std::array<Counter, op_count> counters_;
};

}  // namespace dujiang::comm
