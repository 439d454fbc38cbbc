#include "conformance.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>
#include <string>
#include <thread>

#include "conformance_oracle.h"
#include "framework/base/check.h"

namespace dujiang::comm {

using namespace oracle;

namespace {

// Elements between canaries, starting one element off the allocation's alignment.
template <class T>
class Guarded {
 public:
  Guarded(const Setting& setting, std::int64_t count) : count_(count), device_(setting.stream.device()) {
    const std::size_t bytes = (static_cast<std::size_t>(count) + 2 * margin) * sizeof(T);
    memory_ = setting.allocate ? setting.allocate(bytes) : std::shared_ptr<void>(std::malloc(bytes), std::free);
    std::memset(memory_.get(), 0xa5, bytes);
  }
  T* data() { return first() + margin; }
  Buffer buffer() { return {data(), count_, dtype_of<T>, device_}; }
  Buffer part(std::int64_t begin, std::int64_t count) { return {data() + begin, count, dtype_of<T>, device_}; }

  void fill(int rank, std::uint64_t salt) { fill(0, count_, rank, 0, salt); }
  // data()[at + i] = what `rank` contributes at first + i
  void fill(std::int64_t at, std::int64_t count, int rank, std::int64_t first, std::uint64_t salt) {
    for (std::int64_t i = 0; i < count; ++i) data()[at + i] = value_at<T>(rank, first + i, salt);
  }

  template <class Expected>
  void expect(const std::string& what, Expected expected) {
    expect(what, expected, [&](std::int64_t i, T got) { return same_bits(got, expected(i)); });
  }
  template <class Expected, class Right>
  void expect(const std::string& what, Expected expected, Right right) {
    for (std::int64_t i = 0; i < count_; ++i) {
      DUJIANG_CHECK(right(i, data()[i]), "{}: element {} of {} is {}, expected {}", what, i, count_,
                    static_cast<double>(data()[i]), static_cast<double>(expected(i)));
    }
    for (int i = 0; i < margin; ++i) {
      DUJIANG_CHECK(intact(first() + i) && intact(data() + count_ + i),
                    "{}: memory outside the buffer of {} elements was written", what, count_);
    }
  }
  void expect_untouched(const std::string& what, int rank, std::uint64_t salt) {
    expect(what + ", send buffer", [&](std::int64_t i) { return value_at<T>(rank, i, salt); });
  }

 private:
  static constexpr int margin = 33;
  static bool intact(const T* element) {
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, element, sizeof(T));
    return std::all_of(std::begin(bytes), std::end(bytes), [](unsigned char b) { return b == 0xa5; });
  }
  T* first() { return static_cast<T*>(memory_.get()); }
  std::int64_t count_;
  Device device_;
  std::shared_ptr<void> memory_;
};

// One operation each, both ways. `c` and the counts are the claim's parameters, `salt` makes the data its own.
template <class T>
struct Check {
  Communicator& c;
  const Setting& setting;
  Stream stream = setting.stream;
  std::uint64_t salt = 0;

  std::string name(Op op, Reduce reduce, std::int64_t count, int root, const char* way) {
    return fmt::format("{} {} of {} x {}, root {}, {}, {} rank {} of {}", name_of(op), name_of(reduce), count,
                       name_of(dtype_of<T>), root, way, c.transport(), c.rank(), c.size());
  }

  bool is_reduction(Reduce reduce, std::int64_t index, T got) const {
    if (setting.exact) return same_bits(got, reduced<T>(reduce, c.size(), index, salt));
    return may_come_of(reduce, c.size(), index, salt, got);
  }
  // The elements of `buffer` are those of the reduction from `first` on.
  void expect_reduction(Guarded<T>& buffer, const std::string& what, Reduce reduce, std::int64_t first = 0) {
    buffer.expect(
        what, [&](std::int64_t i) { return reduced<T>(reduce, c.size(), first + i, salt); },
        [&](std::int64_t i, T got) { return is_reduction(reduce, first + i, got); });
  }

  void all_reduce(Reduce reduce, std::int64_t count) {
    Guarded<T> send(setting, count), receive(setting, count), both(setting, count);
    send.fill(c.rank(), ++salt);
    both.fill(c.rank(), salt);
    c.all_reduce(send.buffer(), receive.buffer(), reduce, stream).wait_host();
    const Work work = c.all_reduce(both.buffer(), reduce, stream);
    work.wait(stream);
    work.wait_host();
    expect_reduction(receive, name(Op::all_reduce, reduce, count, 0, "out of place"), reduce);
    expect_reduction(both, name(Op::all_reduce, reduce, count, 0, "in place"), reduce);
    send.expect_untouched(name(Op::all_reduce, reduce, count, 0, "out of place"), c.rank(), salt);
  }

  void reduce(Reduce reduce, std::int64_t count, int root) {
    const auto name_ = [&](const char* way) { return name(Op::reduce, reduce, count, root, way); };
    Guarded<T> send(setting, count), receive(setting, count), both(setting, count);
    send.fill(c.rank(), ++salt);
    both.fill(c.rank(), salt);
    receive.fill(99, salt);
    c.reduce(send.buffer(), receive.buffer(), reduce, root, stream).wait_host();
    c.reduce(both.buffer(), reduce, root, stream).wait_host();
    if (c.rank() == root) {
      expect_reduction(receive, name_("out of place"), reduce);
      expect_reduction(both, name_("in place"), reduce);
    } else {
      receive.expect(name_("receive off the root"), [&](std::int64_t i) { return value_at<T>(99, i, salt); });
      both.expect_untouched(name_("in place, off the root"), c.rank(), salt);
    }
    send.expect_untouched(name_("out of place"), c.rank(), salt);
  }

  void reduce_scatter(Reduce reduce, std::int64_t count) {
    const std::int64_t begin = c.rank() * count;
    Guarded<T> send(setting, count * c.size()), receive(setting, count), both(setting, count * c.size());
    send.fill(c.rank(), ++salt);
    both.fill(c.rank(), salt);
    c.reduce_scatter(send.buffer(), receive.buffer(), reduce, stream).wait_host();
    c.reduce_scatter(both.buffer(), both.part(begin, count), reduce, stream).wait_host();
    expect_reduction(receive, name(Op::reduce_scatter, reduce, count, 0, "out of place"), reduce, begin);
    const auto mine = [&](std::int64_t i) { return i >= begin && i < begin + count; };
    const auto expected = [&](std::int64_t i) {
      return mine(i) ? reduced<T>(reduce, c.size(), i, salt) : value_at<T>(c.rank(), i, salt);
    };
    both.expect(name(Op::reduce_scatter, reduce, count, 0, "in place"), expected, [&](std::int64_t i, T got) {
      return mine(i) ? is_reduction(reduce, i, got) : same_bits(got, expected(i));
    });
    send.expect_untouched(name(Op::reduce_scatter, reduce, count, 0, "out of place"), c.rank(), salt);
  }

  void all_gather(std::int64_t count) {
    const auto expected = [&](std::int64_t i) { return value_at<T>(static_cast<int>(i / count), i % count, salt); };
    Guarded<T> send(setting, count), receive(setting, count * c.size()), both(setting, count * c.size());
    send.fill(c.rank(), ++salt);
    both.fill(c.rank() * count, count, c.rank(), 0, salt);
    c.all_gather(send.buffer(), receive.buffer(), stream).wait_host();
    c.all_gather(both.part(c.rank() * count, count), both.buffer(), stream).wait_host();
    receive.expect(name(Op::all_gather, Reduce::sum, count, 0, "out of place"), expected);
    both.expect(name(Op::all_gather, Reduce::sum, count, 0, "in place"), expected);
    send.expect_untouched(name(Op::all_gather, Reduce::sum, count, 0, "out of place"), c.rank(), salt);
  }

  void broadcast(std::int64_t count, int root) {
    Guarded<T> buffer(setting, count);
    buffer.fill(c.rank(), ++salt);
    c.broadcast(buffer.buffer(), root, stream).wait_host();
    buffer.expect(name(Op::broadcast, Reduce::sum, count, root, "in place"),
                  [&](std::int64_t i) { return value_at<T>(root, i, salt); });
  }

  void reductions(const std::vector<std::int64_t>& counts) {
    for (const Reduce r : {Reduce::sum, Reduce::max, Reduce::min, Reduce::avg}) {
      if (!c.supports(Op::all_reduce, dtype_of<T>, r)) continue;
      for (const std::int64_t count : counts) {
        all_reduce(r, count);
        reduce_scatter(r, count);
        for (int root = 0; root < c.size(); ++root) reduce(r, count, root);
      }
    }
  }

  // Rank s sends n(s, r) elements to r, beginning with its value at start(r): none to some, when count is small.
  static std::int64_t sent(std::int64_t count, int from, int to) { return count * ((from * 3 + to * 5) % 7) / 4; }
  static std::int64_t start(int to) { return std::int64_t{to} << 32; }

  void all_to_all(std::int64_t count) {
    std::vector<std::int64_t> out, in;
    for (int r = 0; r < c.size(); ++r) out.push_back(sent(count, c.rank(), r));
    for (int r = 0; r < c.size(); ++r) in.push_back(sent(count, r, c.rank()));
    const auto total = [](const auto& v) { return std::accumulate(v.begin(), v.end(), std::int64_t{0}); };
    Guarded<T> send(setting, total(out)), receive(setting, total(in));
    ++salt;
    const auto fill = [&](Guarded<T>& into) {
      std::int64_t at = 0;
      for (int r = 0; r < c.size(); at += out[static_cast<std::size_t>(r++)]) {
        into.fill(at, out[static_cast<std::size_t>(r)], c.rank(), start(r), salt);
      }
    };
    fill(send);
    c.all_to_all(send.buffer(), receive.buffer(), {out, in}, stream).wait_host();
    const std::string what = name(Op::all_to_all, Reduce::sum, count, 0, "out of place");
    std::int64_t begin = 0;
    int from = 0;
    receive.expect(what, [&](std::int64_t i) {
      while (i - begin >= in[static_cast<std::size_t>(from)]) begin += in[static_cast<std::size_t>(from++)];
      return value_at<T>(from, start(c.rank()) + i - begin, salt);
    });
    Guarded<T> untouched(setting, total(out));
    fill(untouched);
    send.expect(what + ", send buffer", [&](std::int64_t i) { return untouched.data()[i]; });
  }

  // Two messages to the next rank and one to itself; as many from the one before.
  void ring(std::int64_t count) {
    const int next = (c.rank() + 1) % c.size(), before = (c.rank() + c.size() - 1) % c.size();
    Guarded<T> out(setting, 3 * count), in(setting, 3 * count);
    out.fill(c.rank(), ++salt);
    using enum P2p::Kind;
    const P2p messages[] = {{send, out.part(0, count), next},
                            {receive, in.part(0, count), before},
                            {send, out.part(count, count), next},
                            {receive, in.part(count, count), before},
                            {send, out.part(2 * count, count), c.rank()},
                            {receive, in.part(2 * count, count), c.rank()}};
    // A group of one has no neighbours: its three sends meet its three receives in order.
    c.batch_send_recv(messages, stream).wait_host();
    const std::string what = name(Op::batch_send_recv, Reduce::sum, count, 0, "ring");
    in.expect(what, [&](std::int64_t i) { return value_at<T>(i < 2 * count ? before : c.rank(), i, salt); });
    out.expect_untouched(what, c.rank(), salt);
  }

  // Only rank 0 and the last take part; the others don't call.
  void pair(std::int64_t count) {
    const int last = c.size() - 1;
    Guarded<T> buffer(setting, count);
    ++salt;
    if (last == 0 || (c.rank() != 0 && c.rank() != last)) return;
    buffer.fill(c.rank(), salt);
    const P2p message{c.rank() == 0 ? P2p::Kind::send : P2p::Kind::receive, buffer.buffer(), last - c.rank()};
    c.batch_send_recv({&message, 1}, stream).wait_host();
    buffer.expect(name(Op::batch_send_recv, Reduce::sum, count, 0, "pair"),
                  [&](std::int64_t i) { return value_at<T>(0, i, salt); });
  }

  void moves(const std::vector<std::int64_t>& counts) {
    for (const std::int64_t count : counts) {
      all_gather(count);
      for (int root = 0; root < c.size(); ++root) broadcast(count, root);
      if (c.supports(Op::all_to_all, dtype_of<T>)) all_to_all(count);
      if (!c.supports(Op::batch_send_recv, dtype_of<T>)) continue;
      ring(count);
      pair(count);
    }
  }
};

}  // namespace

void check_operations(Communicator& c, const Setting& setting) {
  const std::int64_t p = c.size();
  std::vector<std::int64_t> counts = {0, 1, p - 1, p, p + 1, 31, 509, 2047, 2048, 2049, 4099};
  std::sort(counts.begin(), counts.end());
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  Check<float>{c, setting}.reductions(counts);
  Check<bf16>{c, setting}.reductions(counts);
  Check<f16>{c, setting}.reductions(counts);
  Check<double>{c, setting}.reductions(counts);
  Check<std::int32_t>{c, setting}.reductions(counts);
  Check<std::int64_t>{c, setting}.reductions(counts);
  Check<std::uint8_t>{c, setting}.reductions(counts);
  Check<float>{c, setting}.moves(counts);
  Check<bf16>{c, setting}.moves(counts);
  Check<f16>{c, setting}.moves(counts);
  Check<double>{c, setting}.moves(counts);
  Check<std::int32_t>{c, setting}.moves(counts);
  Check<std::int64_t>{c, setting}.moves(counts);
  Check<std::uint8_t>{c, setting}.moves(counts);
  Check<std::uint16_t>{c, setting}.moves(counts);
  Check<std::uint32_t>{c, setting}.moves(counts);
  Check<std::uint64_t>{c, setting}.moves(counts);
  Stream stream = setting.stream;
  c.barrier(stream).wait_host();
}

namespace {

template <class T>
void check_boundaries(Communicator& c, std::int64_t chunk, const Setting& setting) {
  Check<T> check{c, setting};
  for (const std::int64_t slice : {chunk, chunk + 1, 3 * chunk + 1}) {
    const std::int64_t total = slice * c.size() - 1;
    check.reduce_scatter(Reduce::sum, slice);
    check.all_gather(slice);
    check.all_reduce(Reduce::sum, total);
    check.reduce(Reduce::sum, total, c.size() - 1);
    check.broadcast(total, c.size() / 2);
    check.all_to_all(slice);
    check.ring(slice);
  }
}

}  // namespace

void check_chunk_boundaries(Communicator& c, std::int64_t chunk_bytes, const Setting& setting) {
  check_boundaries<float>(c, chunk_bytes / 4, setting);
  check_boundaries<bf16>(c, chunk_bytes / 2, setting);
}

void check_size(Communicator& c, std::int64_t bytes, const Setting& setting) {
  Check<float> check{c, setting};
  const std::int64_t count = bytes / 4 + 3, each = count / c.size();
  check.all_reduce(Reduce::sum, count);
  check.reduce(Reduce::sum, count, c.size() - 1);
  check.broadcast(count, c.size() - 1);
  check.reduce_scatter(Reduce::sum, each);
  check.all_gather(each);
  check.all_to_all(each);
}

void check_queued_operations(Communicator& c, const Setting& setting) {
  constexpr int rounds = 40;
  Stream stream = setting.stream;
  std::vector<Guarded<float>> sums;
  std::vector<Guarded<bf16>> gathered;
  std::vector<Guarded<std::int64_t>> sent;
  std::vector<Work> works;
  const auto count_of = [](int i) { return std::int64_t{1} + i * 997; };
  for (int i = 0; i < rounds; ++i) {
    const auto salt = static_cast<std::uint64_t>(i);
    sums.emplace_back(setting, count_of(i)).fill(c.rank(), salt);
    gathered.emplace_back(setting, count_of(i) * c.size()).fill(c.rank() * count_of(i), count_of(i), c.rank(), 0, salt);
    sent.emplace_back(setting, count_of(rounds - i)).fill(c.rank(), salt);
  }
  for (int i = 0; i < rounds; ++i) {
    const auto k = static_cast<std::size_t>(i);
    works.push_back(c.all_reduce(sums[k].buffer(), Reduce::sum, stream));
    works.push_back(c.all_gather(gathered[k].part(c.rank() * count_of(i), count_of(i)), gathered[k].buffer(), stream));
    works.push_back(c.broadcast(sent[k].buffer(), i % c.size(), stream));
  }
  works.back().wait_host();
  for (const Work& work : works) {
    DUJIANG_CHECK(work.query(), "the last of {} operations was complete before one of the others", works.size());
    work.wait(stream);
  }
  for (int i = 0; i < rounds; ++i) {
    const auto k = static_cast<std::size_t>(i);
    const auto salt = static_cast<std::uint64_t>(i);
    Check<float>{c, setting, stream, salt}.expect_reduction(sums[k], "queued all_reduce", Reduce::sum);
    gathered[k].expect("queued all_gather", [&](auto j) {
      return value_at<bf16>(static_cast<int>(j / count_of(i)), j % count_of(i), salt);
    });
    sent[k].expect("queued broadcast", [&](auto j) { return value_at<std::int64_t>(i % c.size(), j, salt); });
  }
}

void check_split(Communicator& c, const Setting& setting) {
  const auto expect = [&](bool right, const char* what) {
    DUJIANG_CHECK(right, "{}, {} rank {} of {}", what, c.transport(), c.rank(), c.size());
  };
  const auto reversed = c.split(0, -c.rank());
  expect(reversed->size() == c.size() && reversed->rank() == c.size() - 1 - c.rank(), "split by key reverses ranks");
  Check<float>{*reversed, setting}.all_reduce(Reduce::sum, 1000);

  const auto parity = c.split(c.rank() % 2, c.rank());
  expect(parity->size() == (c.size() + 1 - c.rank() % 2) / 2 && parity->rank() == c.rank() / 2, "split by parity");
  const auto halves = c.split(c.rank() < c.size() / 2 ? 7 : 3, 0);  // overlaps with the one before
  const bool averages = c.supports(Op::reduce_scatter, Dtype::bf16, Reduce::avg);
  for (int i = 0; i < 10; ++i) {
    Check<float>{*parity, setting}.all_reduce(Reduce::sum, 100 + i);
    Check<bf16>{*halves, setting}.reduce_scatter(averages ? Reduce::avg : Reduce::sum, 100 + i);
    Check<float>{c, setting}.broadcast(100 + i, i % c.size());
  }
  const auto nested = parity->split(0, 0);
  expect(nested->size() == parity->size() && nested->rank() == parity->rank(), "a split of a split");
  Check<std::int32_t>{*nested, setting}.all_gather(77);

  const auto all_but_last = c.split(c.rank() == c.size() - 1 ? -1 : 0, 0);
  expect((all_but_last == nullptr) == (c.rank() == c.size() - 1), "a negative colour is left out");
  if (all_but_last) {
    expect(all_but_last->size() == c.size() - 1, "a group without the last rank");
    Check<float>{*all_but_last, setting}.all_reduce(Reduce::sum, 333);
  }
}

void check_many_communicators(Communicator& c, int times, const Setting& setting) {
  for (int i = 0; i < times; ++i) {
    const auto part = c.split(i % 3 == 0 ? 0 : c.rank() % 2, i % 2 == 0 ? c.rank() : -c.rank());
    Check<float>{*part, setting}.all_reduce(Reduce::sum, 1 + i % 50);
  }
}

void check_two_threads(Communicator& c, const Setting& given) {
  const std::unique_ptr<Communicator> own[] = {c.split(0, c.rank()), c.split(0, -c.rank())};
  std::exception_ptr errors[2];
  const auto body = [&](int which) {
    try {
      // On one stream of a device, operations that the ranks queue in different orders would wait for one another.
      Setting setting = given;
      const auto own_stream = given.another_stream ? given.another_stream() : nullptr;
      if (own_stream) setting.stream = *own_stream;
      // Different operations, in no order that the ranks share between the two.
      for (int i = 0; i < 60; ++i) {
        if (which == 0) {
          Check<float>{*own[0], setting}.all_reduce(Reduce::sum, 1 + 1777 * i);
          Check<std::int32_t>{*own[0], setting}.broadcast(100 + i, i % c.size());
        } else {
          Check<bf16>{*own[1], setting}.reduce_scatter(Reduce::sum, 1 + 331 * i);
          Check<float>{*own[1], setting}.all_gather(1 + 97 * i);
        }
      }
    } catch (...) {
      errors[which] = std::current_exception();
    }
  };
  std::thread first(body, 0), second(body, 1);
  first.join();
  second.join();
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

void check_more_than_2_to_the_31(Communicator& c, const Setting& setting) {
  const std::int64_t count = (std::int64_t{1} << 31) + 12345;
  Stream stream = setting.stream;
  const auto bytes = static_cast<std::size_t>(count);
  const auto memory = setting.allocate ? setting.allocate(bytes) : std::shared_ptr<void>(std::malloc(bytes), std::free);
  auto* data = static_cast<std::uint8_t*>(memory.get());
  const auto value = [](int rank, std::int64_t i) { return static_cast<std::uint8_t>(i % 251 + 7 * rank + (i >> 20)); };
  for (std::int64_t i = 0; i < count; ++i) data[i] = value(c.rank(), i);
  const Buffer buffer{data, count, Dtype::u8, setting.stream.device()};
  const bool sums = c.supports(Op::all_reduce, Dtype::u8);
  (sums ? c.all_reduce(buffer, Reduce::sum, stream) : c.broadcast(buffer, c.size() - 1, stream)).wait_host();
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint8_t expected = sums ? 0 : value(c.size() - 1, i);
    for (int r = 0; r < c.size() && sums; ++r) expected = static_cast<std::uint8_t>(expected + value(r, i));
    DUJIANG_CHECK(data[i] == expected, "element {} of {} is {}, expected {}", i, count, data[i], expected);
  }
}

}  // namespace dujiang::comm
