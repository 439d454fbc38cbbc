#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "data/corpus/read/input.h"

namespace dujiang::data {

namespace {

namespace fs = std::filesystem;
using Parts = std::vector<std::string>;

bool is_pattern(const std::string& part) {
  return part.find_first_of("*?[") != part.npos;
}

// A folder that can't be listed holds nothing that matches; the caller complains when nothing matches at all.
void walk(const fs::path& folder, const Parts& parts, std::size_t at, std::vector<std::string>& out) {
  std::error_code error;
  if (at == parts.size()) {
    if (fs::is_regular_file(folder, error)) out.push_back(folder.string());
    return;
  }
  const std::string& part = parts[at];
  if (!is_pattern(part)) {
    walk(folder / part, parts, at + 1, out);
    return;
  }
  const bool any_depth = part == "**";
  if (any_depth) walk(folder, parts, at + 1, out);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder.empty() ? fs::path(".") : folder, error)) {
    const std::string name = entry.path().filename().string();
    const fs::path path = folder / name;
    if (any_depth) {
      if (entry.is_directory(error) && !entry.is_symlink(error)) walk(path, parts, at, out);
    } else if (::fnmatch(part.c_str(), name.c_str(), FNM_PERIOD) == 0) {
      walk(path, parts, at + 1, out);
    }
  }
}

}  // namespace

std::vector<std::string> glob_files(const std::string& pattern) {
  Parts parts;
  for (const fs::path& part : fs::path(pattern)) parts.push_back(part.string());
  std::vector<std::string> out;
  std::error_code error;
  if (fs::is_regular_file(pattern, error)) {
    out.push_back(pattern);
  } else {
    walk({}, parts, 0, out);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace dujiang::data
