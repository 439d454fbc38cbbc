#include "comm/mpi/mpi_communicator.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <vector>

#include "comm/host/host_operation.h"
#include "comm/host/shared_memory.h"
#include "comm/host/tree_reduce.h"
#include "comm/mpi/mpi_check.h"
#include "comm/mpi/mpi_network.h"
#include "framework/base/allocator.h"

namespace dujiang::comm {
namespace {

// Memory of allocate(), for the ranks of one group.
class GroupMemory final : public PeerMemory {
 public:
  GroupMemory(std::shared_ptr<SharedRegions> regions, std::vector<int> ranks)
      : regions_(std::move(regions)), ranks_(std::move(ranks)) {}
  std::uint64_t offer(const void* data, std::size_t bytes) const override {
    return regions_->offer(ranks_, data, bytes);
  }
  std::byte* reach(int rank, std::uint64_t handle) const override {
    return regions_->reach(ranks_[static_cast<std::size_t>(rank)], handle);
  }

 private:
  const std::shared_ptr<SharedRegions> regions_;
  const std::vector<int> ranks_;  // of the job
};

// The blocks of a host's ranks; empty where they can't be shared. On MPI's thread, collective over `host`.
std::vector<std::shared_ptr<SharedSegment>> share_blocks(MPI_Comm host, int rank, int size) {
  const auto mine = SharedSegment::create(HostGroup::block_bytes(size) + 64);
  const SegmentAddress address = mine->address();
  std::vector<SegmentAddress> addresses(static_cast<std::size_t>(size));
  check_mpi(MPI_Allgather(&address, sizeof address, MPI_BYTE, addresses.data(), sizeof address, MPI_BYTE, host),
            "MPI_Allgather");
  std::vector<std::shared_ptr<SharedSegment>> blocks;
  int all = 1;
  for (int r = 0; r < size; ++r) {
    blocks.push_back(r == rank ? mine : SharedSegment::attach(addresses[static_cast<std::size_t>(r)]));
    if (!blocks.back()) all = 0;
  }
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, host), "MPI_Allreduce");
  mine->close();
  if (all == 0) blocks.clear();
  return blocks;
}

// What a process's communicators have in common.
struct Process {
  std::shared_ptr<MpiSession> session;
  std::vector<int> hosts;  // of every rank of the job
  std::shared_ptr<SharedRegions> regions = std::make_shared<SharedRegions>();
  Process(std::shared_ptr<MpiSession> s, std::vector<int> h) : session(std::move(s)), hosts(std::move(h)) {}
};

class MpiCommunicator final : public Communicator {
 public:
  /// Takes `comm`. Made outside MPI's thread, by all ranks.
  static std::unique_ptr<MpiCommunicator> make(const Process& process, MPI_Comm comm, std::shared_ptr<Flight> flight) {
    std::vector<int> host_of;
    for (const int r : flight->members()) host_of.push_back(process.hosts[static_cast<std::size_t>(r)]);
    const auto size = static_cast<int>(host_of.size()), rank = flight->rank();
    HostLayout layout = HostLayout::of(host_of, rank);
    const auto& ranks = layout.host_ranks;
    const Place place{rank, size, static_cast<int>(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin()),
                      static_cast<int>(ranks.size())};
    std::vector<std::shared_ptr<SharedSegment>> blocks;
    process.session->call([&] {
      if (layout.hosts < size) {
        MPI_Comm host = MPI_COMM_NULL;
        check_mpi(MPI_Comm_split(comm, ranks.front(), place.local_rank, &host), "MPI_Comm_split");
        if (place.local_size > 1) blocks = share_blocks(host, place.local_rank, place.local_size);
        MPI_Comm_free(&host);
      }
    });
    return std::make_unique<MpiCommunicator>(process, comm, place, std::move(layout), std::move(blocks),
                                             std::move(flight));
  }

  MpiCommunicator(const Process& process, MPI_Comm comm, Place place, HostLayout layout,
                  std::vector<std::shared_ptr<SharedSegment>> blocks, std::shared_ptr<Flight> flight)
      : Communicator({"mpi", Device{}}, place, std::move(flight)),
        process_(process),
        session_(process.session.get()),
        comm_(comm),
        exceptions_(std::uncaught_exceptions()),
        blocks_(std::move(blocks)),
        host_(blocks_.empty() ? nullptr : make_host_group(layout)),
        network_(*session_, comm, place.rank, place.size, layout, host_.get()),
        within_host_(host_ && layout.hosts == 1) {}

  MpiSession& session() const { return *session_; }

  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() > exceptions_) {
      if (host_) host_->abandon(fmt::format("rank {} of {} left with an error", rank(), size()));
      session_->cancel();
    }
    // Tasks run in order: none refers to this any more.
    worker_.submit([] {}).wait_host();
    flight()->close();  // what follows may wait for the other ranks
    session_->call([this] {
      if (!session_->cancelled()) MPI_Comm_free(&comm_);
    });
  }

 private:
  std::unique_ptr<HostGroup> make_host_group(const HostLayout& layout) {
    std::vector<int> ranks;
    for (const int r : layout.host_ranks) ranks.push_back(flight()->members()[static_cast<std::size_t>(r)]);
    std::vector<std::byte*> blocks;
    for (const auto& segment : blocks_) blocks.push_back(segment->data() + 64);  // after its secret
    return std::make_unique<HostGroup>(std::move(blocks), local_rank(),
                                       std::make_shared<GroupMemory>(process_.regions, std::move(ranks)),
                                       [this] { return session_->cancelled(); });
  }

  Work do_start(Request request, Stream&) override {
    const auto failed = [this](const std::string& why) {
      if (host_) host_->abandon(why);
      // Messages of a half-done operation would be taken for those of the next.
      if (!within_host_) session_->cancel();
    };
    const bool batch = request.op == Op::batch_send_recv;
    if (within_host_ && !batch) return start_on_host(worker_, *host_, *this, std::move(request), failed);
    return worker_.submit([this, failed, batch, q = std::move(request)] {
      run_noted(
          *this, q, [&] { size() == 1 && !batch ? copy_to_itself(q) : network_.run(q); }, failed);
    });
  }

  static void copy_to_itself(const Request& q) {
    if (q.receive.data == q.send.data || q.send.count == 0) return;
    std::memcpy(q.receive.data, q.send.data, static_cast<std::size_t>(q.send.count) * size_of(q.send.dtype));
  }

  bool do_supports(Op op, Dtype dtype, Reduce reduce) const override {
    return !reduces(op) || can_reduce(dtype, reduce);
  }

  std::shared_ptr<void> do_allocate(std::size_t bytes) override {
    if (!within_host_) return zeroed_host_memory(bytes);
    std::shared_ptr<void> memory;
    worker_.submit([&] { memory = allocate_shared(bytes); }).wait_host();
    return counted_host_memory(std::move(memory), bytes);
  }

  std::shared_ptr<void> allocate_shared(std::size_t bytes) {
    SegmentAddress mine;
    std::shared_ptr<SharedSegment> segment;
    std::string error;
    try {
      segment = SharedSegment::create(bytes);
      mine = segment->address();
      mine.number = process_.regions->next_number();
    } catch (const Error& e) {
      error = e.what();
    }
    std::vector<SegmentAddress> addresses(static_cast<std::size_t>(size()));
    host_->exchange(&mine, sizeof mine, addresses.data());
    std::vector<SharedRegions::Part> parts;
    char whole = error.empty() ? 1 : 0;
    for (int r = 0; r < size() && whole != 0; ++r) {
      const auto& address = addresses[static_cast<std::size_t>(r)];
      const auto theirs = r == rank() ? segment : SharedSegment::attach(address);
      parts.push_back({flight()->members()[static_cast<std::size_t>(r)], address.number, theirs});
      if (!theirs) {
        whole = 0;
        error = fmt::format("rank {} has no {} bytes, or they can't be reached from here", r, bytes);
      }
    }
    std::vector<char> all(static_cast<std::size_t>(size()));
    host_->exchange(&whole, 1, all.data());
    if (segment) segment->close();
    for (int r = 0; r < size(); ++r) {
      if (all[static_cast<std::size_t>(r)] != 0) continue;
      fail("allocate ({} bytes, mpi, rank {} of {}): {}", bytes, rank(), size(),
           error.empty() ? fmt::format("rank {} could not", r) : error);
    }
    return process_.regions->add(std::move(parts), static_cast<std::size_t>(rank()));
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    MPI_Comm part = MPI_COMM_NULL;
    std::vector<int> members;
    worker_
        .submit([&] {
          session_->call([&] {
            DUJIANG_CHECK(!session_->cancelled(), "split (mpi, rank {} of {}): an earlier operation failed", rank(),
                          size());
            check_mpi(MPI_Comm_split(comm_, color < 0 ? MPI_UNDEFINED : color, key, &part), "MPI_Comm_split");
            if (part != MPI_COMM_NULL) members = members_of(part);
          });
        })
        .wait_host();
    auto child = flight()->child(color, members);
    return child ? make(process_, part, std::move(child)) : nullptr;
  }

  // The ranks here of those in `part`.
  std::vector<int> members_of(MPI_Comm part) const {
    MPI_Group inner = MPI_GROUP_NULL, outer = MPI_GROUP_NULL;
    int n = 0;
    MPI_Comm_size(part, &n);
    MPI_Comm_group(part, &inner);
    MPI_Comm_group(comm_, &outer);
    std::vector<int> all(static_cast<std::size_t>(n)), members(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    MPI_Group_translate_ranks(inner, n, all.data(), outer, members.data());
    MPI_Group_free(&inner);
    MPI_Group_free(&outer);
    return members;
  }

  const Process process_;
  MpiSession* const session_;
  MPI_Comm comm_;
  const int exceptions_;
  const std::vector<std::shared_ptr<SharedSegment>> blocks_;
  const std::unique_ptr<HostGroup> host_;
  MpiNetwork network_;
  const bool within_host_;  ///< all ranks share memory
  Worker worker_;           // last: it is joined before what its tasks use goes
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(std::shared_ptr<MpiSession> session,
                                                    std::shared_ptr<Watchdog> watchdog, std::vector<int> hosts) {
  if (hosts.empty()) hosts = session->hosts();
  MPI_Comm world = MPI_COMM_NULL;
  session->call([&] {
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &world), "MPI_Comm_dup");
    MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
  });
  std::vector<int> members(static_cast<std::size_t>(session->size()));
  std::iota(members.begin(), members.end(), 0);
  const int rank = session->rank();
  return MpiCommunicator::make({std::move(session), std::move(hosts)}, world,
                               std::make_shared<Flight>("world", std::move(members), rank, std::move(watchdog)));
}

MpiSession* mpi_session_of(Communicator& communicator) {
  auto* mpi = dynamic_cast<MpiCommunicator*>(&communicator);
  return mpi == nullptr ? nullptr : &mpi->session();
}

}  // namespace dujiang::comm
