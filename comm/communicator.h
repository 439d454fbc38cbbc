#pragma once
// Communicator: collective operations between the ranks of a group. The public front checks every request, numbers it,
// notes it for the watchdog and counts it; a transport (self, thread, mpi, nccl, hccl) starts it.
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
//   A transport whose vendor promises no order says so: promises_tree_order().
// - max and min give NaN where any rank holds NaN (a vendor's transport as its vendor does). Integer sums wrap around.
// - Once an operation has failed, its communicator is poisoned: every later call throws at once and repeats why.

#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <span>
#include <string_view>
#include <vector>

#include "comm/watch/flight.h"
#include "framework/base/device.h"
#include "framework/base/dtype.h"
#include "framework/base/view.h"

namespace dujiang::comm {

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

/// How many elements go to and come from each rank, in rank order. On either side the pieces lie one after the other.
struct Counts {
  std::span<const std::int64_t> send, receive;
};

/// One message of a batch.
struct P2p {
  enum class Kind : std::uint8_t { send, receive };
  Kind kind = Kind::send;
  Buffer buffer;  ///< a send only reads it
  int peer = 0;
};

/// A checked request, as a transport gets it.
struct Request {
  Op op = Op::barrier;
  ConstBuffer send = {};
  Buffer receive = {};  ///< reduce: null except on the root; broadcast: the same memory as send
  Reduce reduce = Reduce::sum;
  int root = 0;
  std::vector<std::int64_t> send_counts = {}, receive_counts = {};  ///< of all_to_all, one for each rank
  std::vector<P2p> messages = {};                                   ///< of batch_send_recv
  std::source_location where = {};
  std::uint64_t id = 0, sequence = 0;  ///< of the flight's entry

  /// What all ranks must agree on. The counts of all_to_all and the messages of a batch differ by nature: they are 0.
  Signature signature() const;
};

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
  /// Blocks until the operation is complete; throws the operation's error, if it had one, every time. What the caller
  /// spends here is the operation's exposed time.
  void wait_host() const;
  /// True when waiting would not block. Never throws the operation's error.
  bool query() const;

 private:
  friend class Communicator;
  std::shared_ptr<State> state_;
  std::shared_ptr<Flight> flight_;
  std::uint64_t id_ = 0;  ///< of the flight's entry
  Op op_ = Op::barrier;
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
  /// "self", "thread", "mpi", "nccl", "hccl"; "rehearsal"
  std::string_view transport() const { return transport_; }
  /// Where buffers must lie.
  Device device() const { return device_; }

  // `where` is the caller's place in the source; messages about the operation name it.
  using Where = std::source_location;

  /// Every rank's buffer becomes the reduction of all of them.
  Work all_reduce(Buffer buffer, Reduce reduce, Stream& stream, Where where = Where::current());
  Work all_reduce(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream, Where where = Where::current());
  /// Rank r receives elements [r * n, (r + 1) * n) of the reduction; n = receive.count, send.count = size * n.
  Work reduce_scatter(ConstBuffer send, Buffer receive, Reduce reduce, Stream& stream, Where where = Where::current());
  /// Everyone receives the ranks' n elements one after the other; n = send.count, receive.count = size * n.
  Work all_gather(ConstBuffer send, Buffer receive, Stream& stream, Where where = Where::current());
  /// Everyone's buffer becomes the root's.
  Work broadcast(Buffer buffer, int root, Stream& stream, Where where = Where::current());
  /// The root's buffer becomes the reduction; the others' stay as they are.
  Work reduce(Buffer buffer, Reduce reduce, int root, Stream& stream, Where where = Where::current());
  /// `receive` is ignored except on the root.
  Work reduce(ConstBuffer send, Buffer receive, Reduce reduce, int root, Stream& stream,
              Where where = Where::current());
  /// Rank s sends counts.send[r] elements to r, which expects them as counts.receive[s]. Not in place.
  Work all_to_all(ConstBuffer send, Buffer receive, const Counts& counts, Stream& stream,
                  Where where = Where::current());
  /// Messages between pairs of ranks, all under way at once: complete when all of this rank's are. The k-th send to a
  /// peer meets that peer's k-th receive from here, within one batch on each side; ranks without a message may leave
  /// the call out. A message to oneself is allowed.
  Work batch_send_recv(std::span<const P2p> messages, Stream& stream, Where where = Where::current());
  /// Complete once every rank has called it.
  Work barrier(Stream& stream, Where where = Where::current());

  /// Whether a request would be taken. `reduce` counts only for operations that reduce; dtype not for a barrier.
  bool supports(Op op, Dtype dtype, Reduce reduce = Reduce::sum) const;
  /// Whether floating sums follow the tree described above, to the bit.
  bool promises_tree_order() const { return tree_order_; }

  /// Collective: every rank calls it with the same size. Zeroed memory that this transport communicates fastest from
  /// and to (the other ranks of a host reach it without a copy, a device registers it); otherwise ordinary memory of
  /// `device()`. May outlive the communicator. Throws Error when there isn't enough.
  std::shared_ptr<void> allocate(std::size_t bytes);

  /// Collective. Ranks that give the same colour form a communicator, ordered by key, then by rank here; a negative
  /// colour gets null. Blocks until everything requested before has run.
  std::unique_ptr<Communicator> split(int color, int key);
  /// The same where every rank knows the colours of all: color_of(r) is that of rank r here. Ordered by rank.
  std::unique_ptr<Communicator> split_by(const std::function<int(int rank)>& color_of);

  /// A snapshot; may be taken while operations run.
  OpStats stats(Op op) const { return flight_->stats(op); }
  /// What this communicator is doing and did last.
  const std::shared_ptr<Flight>& flight() const { return flight_; }

 protected:
  /// What a transport says of itself at construction.
  struct Traits {
    std::string_view transport;
    Device device;
    bool tree_order = true;
  };
  Communicator(Traits traits, Place place, std::shared_ptr<Flight> flight);
  /// What do_allocate returns where there is nothing better.
  static std::shared_ptr<void> zeroed_host_memory(std::size_t bytes);

 private:
  /// Starts a request of at least one element, but for all_to_all and barrier. The transport calls flight()->start(id)
  /// when it begins to run and finish(id) when it has, or fail(id, why).
  virtual Work do_start(Request request, Stream& stream) = 0;
  virtual bool do_supports(Op op, Dtype dtype, Reduce reduce) const = 0;
  virtual std::shared_ptr<void> do_allocate(std::size_t bytes) = 0;
  virtual std::unique_ptr<Communicator> do_split(int color, int key) = 0;
  virtual std::unique_ptr<Communicator> do_split_by(const std::function<int(int rank)>& color_of);

  void check(Op op, ConstBuffer buffer, const char* which, Reduce reduce, const Stream& stream) const;
  void check_root(Op op, int root) const;
  void check_overlap(Op op, ConstBuffer send, ConstBuffer receive, const void* in_place) const;
  Work start(Request request, ConstBuffer larger, Stream& stream);
  std::string who(Op op) const;

  std::string_view transport_;
  Device device_;
  bool tree_order_;
  Place place_;
  std::shared_ptr<Flight> flight_;
};

}  // namespace dujiang::comm
