#pragma once
// From raw files to clean documents: read, filter, split, in an order that depends on the config and files alone.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/corpus/build/filter.h"
#include "data/corpus/read/source.h"

namespace dujiang::data {

struct CorpusConfig {
  std::vector<SourceConfig> sources;
  FilterConfig filter;
  double held_out_share = 0.0;  // of documents, in [0, 1)
  std::uint64_t seed = 1;       // of the split
};

struct PipelineDocument {
  std::string text;
  int source_index = 0;  // into CorpusConfig::sources
  std::string path;
  std::uint64_t offset = 0;  // of the document in the decompressed file, in bytes
  Hash128 hash128{};         // of text
  bool held_out = false;
};

struct CorpusReport {
  FilterReport filter;
  std::vector<PipelineCounts> kept_by_source;
  PipelineCounts train, held_out;
  std::uint64_t files = 0;
  std::uint64_t nul_bytes = 0;  // dropped from documents
};

/// Runs the pipeline and hands each kept document to `sink`. UserError: see read_source; a value out of range; a
/// corpus of which nothing is kept (the message says which rules dropped it).
CorpusReport build_corpus(const CorpusConfig& config, const std::function<void(PipelineDocument&&)>& sink);

}  // namespace dujiang::data
