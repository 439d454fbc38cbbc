#include "comm/mpi_communicator.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <tuple>
#include <vector>

#include "comm/mpi_requests.h"
#include "comm/slices.h"
#include "comm/tree_reduce.h"

namespace dujiang::comm {
namespace {

// Messages of the two phases may overtake one another.
constexpr int scatter_tag = 1;
constexpr int gather_tag = 2;
constexpr int everyone = -1;

char* at(const void* data, std::int64_t element, Dtype dtype) {
  return const_cast<char*>(static_cast<const char*>(data)) + element * static_cast<std::int64_t>(size_of(dtype));
}

std::size_t bytes(std::int64_t count, Dtype dtype) {
  return static_cast<std::size_t>(count) * size_of(dtype);
}

Place place_of(MPI_Comm comm) {
  Place place;
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_rank(comm, &place.rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &place.size), "MPI_Comm_size");
  check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, place.rank, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  MPI_Comm_rank(host, &place.local_rank);
  MPI_Comm_size(host, &place.local_size);
  MPI_Comm_free(&host);
  return place;
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiSession> session, MPI_Comm comm, Place place, std::shared_ptr<Flight> flight)
      : Communicator({"mpi", Device{}}, place, std::move(flight)),
        session_(std::move(session)),
        comm_(comm),
        exceptions_(std::uncaught_exceptions()),
        chunk_bytes_(mpi_chunk_bytes(place.size)),
        sources_(static_cast<std::size_t>(place.size)) {}

  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() > exceptions_) session_->cancel();
    auto last = session_->worker().submit([this] {
      if (!session_->cancelled()) MPI_Comm_free(&comm_);
    });
    last.wait_host();  // tasks run in order: none refers to this any more
  }

 private:
  Work do_start(Request request, Stream&) override {
    return session_->worker().submit([this, q = std::move(request)] {
      flight()->start(q.id);
      try {
        DUJIANG_CHECK(!session_->cancelled(), "abandoned: an earlier operation failed, or the job is ending");
        run(q);
      } catch (const std::exception& e) {
        session_->cancel();  // messages of a half-done operation would be taken for those of the next
        flight()->fail(q.id, e.what());
        fail("{} (mpi, rank {} of {}): {}", name_of(q.op), rank(), size(), e.what());
      }
      flight()->finish(q.id);
    });
  }

  void run(const Request& q) {
    switch (q.op) {
      case Op::all_reduce:
        return all_reduce(q);
      case Op::reduce:
        return reduce(q);
      case Op::reduce_scatter:
        return reduce_scatter(q);
      case Op::all_gather:
        return all_gather(q);
      case Op::broadcast:
        return broadcast(q);
      case Op::barrier:
        return barrier();
      default:
        fail("not yet");
    }
  }

  Requests requests() const { return Requests(comm_, *session_); }

  std::int64_t chunk(Dtype dtype) const { return chunk_bytes_ / static_cast<std::int64_t>(size_of(dtype)); }

  // Calls body(peer) for every other rank, beginning with the next one, so that not all turn to rank 0 at once.
  template <class Body>
  void for_peers(Body body) const {
    for (int i = 1; i < size(); ++i) body((rank() + i) % size());
  }

  // Every rank's part of slice `rank()` comes here, everyone else's slices of `send` leave.
  void post_parts(Requests& requests, ConstBuffer send, const Slices& slices, std::int64_t round, char* scratch) {
    const std::int64_t mine = slices.length(rank(), round);
    for_peers([&](int peer) {
      if (mine > 0) requests.receive(scratch + peer * chunk_bytes_, bytes(mine, send.dtype), peer, scatter_tag);
    });
    for_peers([&](int peer) {
      const std::int64_t theirs = slices.length(peer, round);
      if (theirs == 0) return;
      requests.send(at(send.data, slices.offset(peer, round), send.dtype), bytes(theirs, send.dtype), peer,
                    scatter_tag);
    });
  }

  // `own`, this rank's piece of the round, goes to `to` (a root or everyone); theirs come to their place in `whole`.
  void post_gather(Requests& requests, const void* own, void* whole, Dtype dtype, const Slices& slices,
                   std::int64_t round, int to) {
    const std::int64_t mine = slices.length(rank(), round);
    for_peers([&](int peer) {
      const std::int64_t theirs = slices.length(peer, round);
      if (theirs == 0 || (to != everyone && to != rank())) return;
      requests.receive(at(whole, slices.offset(peer, round), dtype), bytes(theirs, dtype), peer, gather_tag);
    });
    for_peers([&](int peer) {
      if (mine == 0 || (to != everyone && to != peer)) return;
      requests.send(own, bytes(mine, dtype), peer, gather_tag);
    });
  }

  // The reducing operations: scatter the parts, reduce the own slice, then hand it to finished(round, requests). While
  // one round is reduced the parts of the next travel. output(round) says where the reduced piece goes.
  template <class Output, class Finished>
  void reduce_slices(ConstBuffer send, Reduce reduce, const Slices& slices, Output output, Finished finished) {
    const std::int64_t half = chunk_bytes_ * size();
    scratch_.resize(static_cast<std::size_t>(2 * half));
    Requests parts[2] = {requests(), requests()}, gathers[2] = {requests(), requests()};
    post_parts(parts[0], send, slices, 0, scratch_.data());
    for (std::int64_t round = 0; round < slices.rounds(); ++round) {
      const auto now = static_cast<std::size_t>(round % 2), next = 1 - now;
      if (round + 1 < slices.rounds()) {
        post_parts(parts[next], send, slices, round + 1, scratch_.data() + static_cast<std::int64_t>(next) * half);
      }
      parts[now].finish();
      gathers[now].finish();  // its output may be reused
      const std::int64_t count = slices.length(rank(), round);
      void* out = output(round);
      if (count > 0) {
        for (int r = 0; r < size(); ++r) {
          sources_[static_cast<std::size_t>(r)] =
              r == rank() ? at(send.data, slices.offset(r, round), send.dtype)
                          : scratch_.data() + static_cast<std::int64_t>(now) * half + r * chunk_bytes_;
        }
        reduce_tree(send.dtype, reduce, sources_.data(), size(), out, count);
      }
      finished(gathers[now], out, round);
    }
    gathers[0].finish();
    gathers[1].finish();
  }

  void all_reduce(const Request& q) {
    const auto& [send, receive, reduce] = std::tie(q.send, q.receive, q.reduce);
    {
      const Slices slices = Slices::of(send.count, size(), chunk(send.dtype));
      reduce_slices(
          send, reduce, slices,
          [&](std::int64_t round) { return at(receive.data, slices.offset(rank(), round), receive.dtype); },
          [&](Requests& requests, void* own, std::int64_t round) {
            post_gather(requests, own, receive.data, receive.dtype, slices, round, everyone);
          });
    }
  }

  void reduce(const Request& q) {
    const auto& [send, receive, reduce, root] = std::tie(q.send, q.receive, q.reduce, q.root);
    {
      const Slices slices = Slices::of(send.count, size(), chunk(send.dtype));
      result_.resize(static_cast<std::size_t>(2 * chunk_bytes_));
      reduce_slices(
          send, reduce, slices,
          [&](std::int64_t round) {
            return rank() == root ? at(receive.data, slices.offset(rank(), round), send.dtype)
                                  : result_.data() + round % 2 * chunk_bytes_;
          },
          [&](Requests& requests, void* own, std::int64_t round) {
            post_gather(requests, own, receive.data, send.dtype, slices, round, root);
          });
    }
  }

  void reduce_scatter(const Request& q) {
    const auto& [send, receive, reduce] = std::tie(q.send, q.receive, q.reduce);
    {
      const Slices slices = Slices::equal(receive.count, size(), chunk(send.dtype));
      reduce_slices(
          send, reduce, slices,
          [&](std::int64_t round) { return at(receive.data, round * slices.chunk, receive.dtype); },
          [](Requests&, void*, std::int64_t) {});
    }
  }

  void all_gather(const Request& q) {
    const auto& [send, receive] = std::tie(q.send, q.receive);
    {
      const Dtype dtype = send.dtype;
      const Slices slices = Slices::equal(send.count, size(), chunk(dtype));
      Requests gathers[2] = {requests(), requests()};
      for (std::int64_t round = 0; round < slices.rounds(); ++round) {
        auto& gather = gathers[round % 2];
        gather.finish();
        post_gather(gather, at(send.data, round * slices.chunk, dtype), receive.data, dtype, slices, round, everyone);
      }
      void* own = at(receive.data, rank() * send.count, dtype);
      if (own != send.data) std::memcpy(own, send.data, bytes(send.count, dtype));
      gathers[0].finish();
      gathers[1].finish();
    }
  }

  // The root hands every rank one slice (its own to all), then those hand theirs to one another.
  void broadcast(const Request& q) {
    const auto& [buffer, root] = std::tie(q.receive, q.root);
    {
      const Dtype dtype = buffer.dtype;
      const Slices slices = Slices::of(buffer.count, size(), chunk(dtype));
      const auto piece = [&](int r, std::int64_t round) { return at(buffer.data, slices.offset(r, round), dtype); };
      const auto length = [&](int r, std::int64_t round) { return bytes(slices.length(r, round), dtype); };
      Requests parts[2] = {requests(), requests()}, gathers[2] = {requests(), requests()};
      const auto post = [&](std::int64_t round) {
        auto& part = parts[round % 2];
        if (rank() != root) {
          if (length(rank(), round) > 0) part.receive(piece(rank(), round), length(rank(), round), root, scatter_tag);
          return;
        }
        for_peers([&](int peer) {
          if (length(peer, round) > 0) part.send(piece(peer, round), length(peer, round), peer, scatter_tag);
          if (length(root, round) > 0) part.send(piece(root, round), length(root, round), peer, gather_tag);
        });
      };
      post(0);
      for (std::int64_t round = 0; round < slices.rounds(); ++round) {
        auto& gather = gathers[round % 2];
        if (round + 1 < slices.rounds()) post(round + 1);
        parts[round % 2].finish();
        gather.finish();
        if (rank() == root) continue;
        for_peers([&](int peer) {
          if (length(peer, round) > 0) gather.receive(piece(peer, round), length(peer, round), peer, gather_tag);
          if (peer != root && length(rank(), round) > 0) {
            gather.send(piece(rank(), round), length(rank(), round), peer, gather_tag);
          }
        });
      }
      gathers[0].finish();
      gathers[1].finish();
    }
  }

  void barrier() {
    {
      auto barrier = requests();
      barrier.barrier();
      barrier.finish();
    }
  }

  bool do_supports(Op op, Dtype dtype, Reduce reduce) const override {
    return !reduces(op) || can_reduce(dtype, reduce);
  }
  std::shared_ptr<void> do_allocate(std::size_t bytes) override { return zeroed_host_memory(bytes); }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    MPI_Comm part = MPI_COMM_NULL;
    Place place;
    session_->worker()
        .submit([&] {
          DUJIANG_CHECK(!session_->cancelled(), "split (mpi, rank {} of {}): an earlier operation failed", rank(),
                        size());
          check_mpi(MPI_Comm_split(comm_, color < 0 ? MPI_UNDEFINED : color, key, &part), "MPI_Comm_split");
          if (part != MPI_COMM_NULL) place = place_of(part);
        })
        .wait_host();
    if (part == MPI_COMM_NULL) return nullptr;
    return std::make_unique<MpiCommunicator>(session_, part, place,
                                             std::make_shared<Flight>("part", std::vector<int>{0}, 0));
  }

  const std::shared_ptr<MpiSession> session_;
  MPI_Comm comm_;
  const int exceptions_;
  const std::int64_t chunk_bytes_;
  // Used by the communication thread alone.
  std::vector<const void*> sources_;
  std::vector<char> scratch_, result_;
};

}  // namespace

std::int64_t mpi_chunk_bytes(int ranks) {
  constexpr std::int64_t scratch = 8 << 20;  // two rounds from every rank, for up to 128 ranks
  return std::clamp<std::int64_t>(scratch / (2 * ranks), 32 << 10, 512 << 10);
}

std::unique_ptr<Communicator> make_mpi_communicator() {
  auto session = std::make_shared<MpiSession>();
  MPI_Comm world = MPI_COMM_NULL;
  Place place;
  session->worker()
      .submit([&] {
        check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &world), "MPI_Comm_dup");
        MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
        place = place_of(world);
      })
      .wait_host();
  return std::make_unique<MpiCommunicator>(std::move(session), world, place,
                                           std::make_shared<Flight>("world", std::vector<int>{0}, 0));
}

}  // namespace dujiang::comm
