#pragma once
// The short way from files to text, for small inputs: no filters, no account, nothing left out.

#include <functional>
#include <string>
#include <vector>

#include "data/corpus/read/extract.h"

namespace dujiang::data {

/// Hands on the text of each document of the files that `globs` name, in order. UserError at the first fault: a glob
/// that matches nothing, a file that can't be read, a document that is no text.
void for_each_text(const std::vector<std::string>& globs, const ReadConfig& read, const ExtractConfig& extract,
                   const std::function<void(std::string&&)>& sink);

}  // namespace dujiang::data
