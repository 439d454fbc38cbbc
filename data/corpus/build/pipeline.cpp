#include "data/corpus/build/pipeline.h"

#include "framework/base/check.h"

namespace dujiang::data {

namespace {

void add(PipelineCounts& counts, std::string_view text) {
  ++counts.documents;
  counts.bytes += text.size();
  ++counts.lines;
  for (const char c : text) counts.lines += c == '\n';
}

[[noreturn]] void fail_empty(const CorpusReport& report) {
  std::string drops;
  for (int r = 0; r < rule_count; ++r) {
    const PipelineCounts& dropped = report.filter.dropped[static_cast<std::size_t>(r)];
    if (dropped.documents + dropped.lines == 0) continue;
    drops += fmt::format("; {} dropped {} documents and {} lines", rule_name(static_cast<Rule>(r)), dropped.documents,
                         dropped.lines);
  }
  fail_user("corpus: nothing is left of {} documents in {} files{}", report.filter.input.documents, report.files,
            drops.empty() ? "; they hold no text" : drops);
}

}  // namespace

CorpusReport build_corpus(const CorpusConfig& config, const std::function<void(PipelineDocument&&)>& sink) {
  if (config.sources.empty()) fail_user("corpus: no sources; name at least one with files");
  if (!(config.held_out_share >= 0 && config.held_out_share < 1)) {
    fail_user("corpus: held_out_share must lie in [0, 1), found {}", config.held_out_share);
  }
  Filter filter(config.filter);
  CorpusReport report;
  report.kept_by_source.resize(config.sources.size());
  for (std::size_t s = 0; s < config.sources.size(); ++s) {
    report.files += read_source(config.sources[s], [&](RawDocument&& raw) {
      report.nul_bytes += raw.nul_bytes;
      if (raw.skipped) {
        filter.count_unreadable(raw.raw_bytes);
        return;
      }
      PipelineDocument document;
      if (!filter.apply(raw.text, document.hash128)) return;
      document.text = std::move(raw.text);
      document.source_index = static_cast<int>(s);
      document.path = std::move(raw.path);
      document.offset = raw.offset;
      document.held_out = is_held_out(document.text, config.seed, config.held_out_share);
      add(report.kept_by_source[s], document.text);
      add(document.held_out ? report.held_out : report.train, document.text);
      sink(std::move(document));
    });
  }
  report.filter = filter.report();
  report.filter.check();
  if (report.filter.kept.documents == 0) fail_empty(report);
  return report;
}

}  // namespace dujiang::data
