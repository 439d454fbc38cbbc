// bench_extract FILE...: MB of raw bytes per second of one core's time: reading, decoding, normalising, telling the
// script, and all of extraction. On machines that others use too, CPU time says what wall time can't.

#include <time.h>

#include <cstdio>
#include <vector>

#include "data/corpus/read/extract.h"

using namespace dujiang::data;

namespace {

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The best of some rounds.
template <class Work>
void measure(const char* what, double bytes, Work work) {
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    const double start = cpu_seconds();
    work();
    best = std::min(best, cpu_seconds() - start);
  }
  std::printf("  %-10s %7.0f MB/s\n", what, bytes / 1e6 / best);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::vector<RawDocument> documents;
    double bytes = 0, text_bytes = 0;
    const auto read = [&] {
      documents.clear();
      DocumentReader reader(argv[i], {});
      for (RawDocument document; reader.next(document);) documents.push_back(std::move(document));
    };
    read();
    const Extractor extractor({});
    std::vector<std::string> texts;
    for (const RawDocument& document : documents) {
      TextDocument out;
      Tally tally;
      bytes += static_cast<double>(document.raw_bytes);
      if (!extractor(document, out, tally)) text_bytes += static_cast<double>(texts.emplace_back(out.text).size());
    }
    std::printf("%s: %zu documents, %.1f MB raw, %.1f MB text\n", argv[i], documents.size(), bytes / 1e6,
                text_bytes / 1e6);
    measure("read", bytes, read);
    measure("extract", bytes, [&] {
      for (const RawDocument& document : documents) {
        TextDocument out;
        Tally tally;
        extractor(document, out, tally);
      }
    });
    measure("decode", text_bytes, [&] {
      for (const std::string& text : texts) decode(text);
    });
    measure("normalise", text_bytes, [&] {
      NormaliseReport report;
      for (const std::string& text : texts) normalise(text, {}, report);
    });
    measure("script", text_bytes, [&] {
      ScriptCounts sum;
      for (const std::string& text : texts) sum.simplified += count_script(text).simplified;
      if (sum.simplified == 1) std::puts("");
    });
  }
}
