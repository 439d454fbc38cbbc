#pragma once
// Collective operations of the mpi transport by messages, between ranks that share no memory. Included by sources of
// the mpi transport only.

#include <memory>
#include <vector>

#include "comm/host/host_group.h"
#include "comm/host/slices.h"
#include "comm/mpi/mpi_session.h"

namespace dujiang::comm {

/// Messages of one step, started together and waited for together.
class Messages {
 public:
  Messages(MpiSession& session, void* mpi_comm) : session_(session), comm_(mpi_comm) {}

  void send(const void* data, std::size_t bytes, int to, int tag) {
    add(true, static_cast<char*>(const_cast<void*>(data)), bytes, to, tag);
  }
  void receive(void* data, std::size_t bytes, int from, int tag) {
    add(false, static_cast<char*>(data), bytes, from, tag);
  }
  void start() {
    if (!messages_.empty()) transfer_ = session_.start(comm_, std::move(messages_));
    messages_.clear();
  }
  /// Returns once all of them are complete; throws when the session is cancelled.
  void finish() {
    if (transfer_) session_.wait(*transfer_);
    transfer_.reset();
  }

 private:
  // In pieces, as MPI 3 counts in int.
  void add(bool send, char* data, std::size_t bytes, int peer, int tag) {
    constexpr std::size_t piece = 1 << 30;
    for (std::size_t begin = 0; begin < bytes; begin += piece) {
      messages_.push_back({send, data + begin, std::min(piece, bytes - begin), peer, tag});
    }
  }

  MpiSession& session_;
  void* comm_;
  std::vector<MpiMessage> messages_;
  std::shared_ptr<MpiSession::Transfer> transfer_;
};

/// How a communicator's ranks lie on hosts.
struct HostLayout {
  std::vector<int> host_ranks;  ///< the ranks of this rank's host, ascending
  int hosts = 1;
  /// Ranks per host when every host has the same power of two, above one, of consecutive ranks; else 1.
  int block = 1;

  /// `host_of` has a number for every rank's host, any number.
  static HostLayout of(const std::vector<int>& host_of, int rank);
};

class MpiNetwork {
 public:
  /// `host` is the shared memory of this host's ranks; null where there is none.
  MpiNetwork(MpiSession& session, void* mpi_comm, int rank, int size, HostLayout layout, HostGroup* host);

  /// Runs a request to its end. batch_send_recv goes this way on every host.
  void run(const Request& request);

 private:
  Messages messages() const { return {session_, comm_}; }
  Slices slices_of(const Request& request) const;
  template <class Body>
  void for_peers(Body body) const;

  void reduction(const Request& request);
  void reduce_flat(const Request& request, const Slices& slices);
  void reduce_by_hosts(const Request& request, const Slices& slices);
  void post_parts(Messages& out, ConstBuffer send, const Slices& slices, std::int64_t round, char* scratch);
  void post_gather(Messages& out, const void* own, void* whole, Dtype dtype, const Slices& slices, std::int64_t round,
                   int to);
  void* output(const Request& request, const Slices& slices, std::int64_t round);
  void all_gather(const Request& request);
  void broadcast(const Request& request);
  void all_to_all(const Request& request);
  void batch(const Request& request);
  void barrier();

  MpiSession& session_;
  void* const comm_;
  const int rank_, size_;
  const HostLayout layout_;
  HostGroup* const host_;
  const bool by_hosts_;
  const std::int64_t chunk_bytes_;
  std::vector<char> scratch_, result_;
};

}  // namespace dujiang::comm
