#include "comm/mpi/mpi_plain.h"

#include <mpi.h>

#include <chrono>
#include <limits>
#include <vector>

#include "comm/mpi/mpi_check.h"

namespace dujiang::comm {
namespace {

void add_bf16(void* in, void* inout, int* count, MPI_Datatype*) {
  const auto* a = static_cast<const bf16*>(in);
  auto* b = static_cast<bf16*>(inout);
  for (int i = 0; i < *count; ++i) b[i] = bf16(float(a[i]) + float(b[i]));
}

// MPI's types for the element and the sum; bf16's are made and freed here.
class Types {
 public:
  explicit Types(Dtype dtype) : made_(dtype == Dtype::bf16) {
    if (!made_) return;
    check_mpi(MPI_Type_contiguous(2, MPI_BYTE, &element_), "MPI_Type_contiguous");
    check_mpi(MPI_Type_commit(&element_), "MPI_Type_commit");
    check_mpi(MPI_Op_create(add_bf16, 1, &sum_), "MPI_Op_create");
  }
  ~Types() {
    if (!made_) return;
    MPI_Op_free(&sum_);
    MPI_Type_free(&element_);
  }
  Types(const Types&) = delete;
  Types& operator=(const Types&) = delete;
  MPI_Datatype element() const { return element_; }
  MPI_Op sum() const { return sum_; }

 private:
  bool made_;
  MPI_Datatype element_ = MPI_FLOAT;
  MPI_Op sum_ = MPI_SUM;
};

int as_int(std::int64_t count) {
  DUJIANG_CHECK(count <= std::numeric_limits<int>::max(), "MPI 3 can't count {} elements", count);
  return static_cast<int>(count);
}

void call_once(const Request& q, const Types& t) {
  const MPI_Comm world = MPI_COMM_WORLD;
  const auto in_place = [&](bool is) { return is ? MPI_IN_PLACE : q.send.data; };
  const bool same = q.send.data == q.receive.data;
  switch (q.op) {
    case Op::all_reduce:
      return check_mpi(MPI_Allreduce(in_place(same), q.receive.data, as_int(q.send.count), t.element(), t.sum(), world),
                       "MPI_Allreduce");
    case Op::reduce_scatter:
      return check_mpi(
          MPI_Reduce_scatter_block(q.send.data, q.receive.data, as_int(q.receive.count), t.element(), t.sum(), world),
          "MPI_Reduce_scatter_block");
    case Op::all_gather:
      return check_mpi(MPI_Allgather(q.send.data, as_int(q.send.count), t.element(), q.receive.data,
                                     as_int(q.send.count), t.element(), world),
                       "MPI_Allgather");
    case Op::broadcast:
      return check_mpi(MPI_Bcast(q.receive.data, as_int(q.send.count), t.element(), q.root, world), "MPI_Bcast");
    case Op::reduce: {
      int rank = 0;
      MPI_Comm_rank(world, &rank);
      return check_mpi(MPI_Reduce(in_place(same && rank == q.root), q.receive.data, as_int(q.send.count), t.element(),
                                  t.sum(), q.root, world),
                       "MPI_Reduce");
    }
    case Op::all_to_all: {
      const int each = as_int(q.send_counts[0]);
      return check_mpi(MPI_Alltoall(q.send.data, each, t.element(), q.receive.data, each, t.element(), world),
                       "MPI_Alltoall");
    }
    case Op::barrier:
      return check_mpi(MPI_Barrier(world), "MPI_Barrier");
    default:
      fail("no plain MPI call for {}", name_of(q.op));
  }
}

}  // namespace

bool plain_mpi_supports(Op op, Dtype dtype) {
  return op != Op::batch_send_recv && (dtype == Dtype::f32 || dtype == Dtype::bf16);
}

double run_plain_mpi(MpiSession& session, const Request& request, int times) {
  double seconds = 0;
  session.call([&] {
    const Types types(request.send.dtype);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < times; ++i) call_once(request, types);
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  });
  return seconds;
}

}  // namespace dujiang::comm
