#include "data/corpus/read/texts.h"

#include "framework/base/check.h"

namespace dujiang::data {

void for_each_text(const std::vector<std::string>& globs, const ReadConfig& read, const ExtractConfig& extract,
                   const std::function<void(std::string&&)>& sink) {
  const Extractor extractor(extract);
  std::vector<FileFault> faults;
  const auto files = list_files("input", globs, faults);
  if (!faults.empty()) fail_user("{}", faults.front().message);
  for (const std::string& path : files) {
    DocumentReader reader(path, read);
    for (RawDocument raw; reader.next(raw);) {
      TextDocument document;
      Tally tally;
      if (const auto why = raw.fault ? raw.fault : extractor(raw, document, tally))
        fail_user("{}: line {}: {}: {}", printable_path(path), raw.line, why->rule, why->detail);
      sink(std::move(document.text));
    }
    if (reader.fault()) fail_user("{}", reader.fault()->message);
  }
}

}  // namespace dujiang::data
