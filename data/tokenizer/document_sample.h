#pragma once
// A sample of documents within a number of bytes, the same whatever order they come in.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dujiang::data {

/// Where documents come from.
struct TextSource {
  std::string name{};
  std::string genre{};  ///< modern, classical, ...; empty: none
  double weight = 1;    ///< sources are sampled at rates in proportion to their weights; 0: not at all
};

/// Takes the documents of the heaviest source at one rate, at most 1, and those of others at that rate times their
/// weight over the heaviest's; the rate is the largest with which the sample fits. Whether a document is taken follows
/// from its text, its source's weight, the seed and that rate alone. Documents above 1/64 of the capacity (or 1 MiB)
/// are cut behind lines, where that can be, and the parts drawn one by one, so that memory is bounded.
class DocumentSample {
 public:
  struct Part {
    double key;  // parts go from the highest on
    std::uint32_t source;
    std::string text;
    bool operator<(const Part& other) const { return key != other.key ? key < other.key : source < other.source; }
  };
  /// Of one source: what came, and what of it is in the sample now.
  struct Count {
    std::int64_t documents = 0, bytes = 0;
    std::int64_t sampled_bytes = 0;
  };

  /// `capacity` in bytes of text. Weights are finite and not negative, one of them positive.
  DocumentSample(std::int64_t capacity, std::uint64_t seed, const std::vector<TextSource>& sources);

  /// `text` is valid UTF-8.
  void add(std::string_view text, std::uint32_t source);

  /// By key, which is an order drawn by text and seed.
  std::vector<Part> take();
  const std::vector<Count>& counts() const { return counts_; }  ///< by source
  std::int64_t bytes() const { return bytes_; }

 private:
  void draw(std::string_view text, std::uint32_t source);

  std::size_t capacity_, part_bytes_;
  std::uint64_t seed_;
  std::vector<double> rates_;  // by source, the highest 1
  std::vector<Count> counts_;
  std::vector<Part> heap_;
  Part limit_;  // what is not below it is out
  std::int64_t bytes_ = 0;
};

}  // namespace dujiang::data
