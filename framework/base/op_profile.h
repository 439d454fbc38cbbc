#pragma once
// A profile: which ops a thread called, with what shapes, in which section of the work, and the time they took.

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "framework/base/chrome_trace.h"
#include "framework/base/op_observer.h"

namespace dujiang {

class OpProfile final : public OpObserver {
 public:
  using Clock = ChromeTrace::Clock;

  /// Calls of one op with the same shapes, dtypes and strides, in one section.
  struct Row {
    std::string section, op;
    std::vector<std::string> views;  ///< "bf16[2048, 768]", of those that were defined
    std::string shape;       ///< what tells calls apart at a glance: "a·bᵀ 2048x1280x768" (m, n, k), "[2048, 768]"
    bool attention = false;  ///< as OpCost's
    std::uint64_t calls = 0;
    double seconds = 0, flops = 0, bytes = 0;
  };
  struct Section {
    std::string name;
    std::uint64_t calls = 0;
    double seconds = 0;
    double rest = 0;  ///< of these, in no op and in no section inside
  };

  /// What an op calls in turn counts as its own.
  void call(const OpCall& call, const std::function<void()>& run) override;
  void begin_section(const char* name) override;
  void end_section() override;

  const std::vector<Row>& rows() const { return rows_; }              ///< in the order of their first calls
  const std::vector<Section>& sections() const { return sections_; }  ///< likewise

  /// One event per call, inside of those of the sections.
  ChromeTrace trace(int rank) const;

 private:
  struct Event {
    bool is_section;
    std::size_t index;  ///< of rows_ or sections_
    Clock::time_point begin, end;
    double flops, bytes;
  };
  struct Open {
    std::size_t section;
    Clock::time_point begin;
    double inside = 0;  ///< seconds in ops and sections
  };
  std::size_t row_of(const OpCall& call);
  /// Notes what ends now. Returns its seconds.
  double close(const Event& begun);

  std::vector<Row> rows_;
  std::vector<Section> sections_;
  std::vector<Open> open_;
  std::vector<Event> events_;
};

}  // namespace dujiang
