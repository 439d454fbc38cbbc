#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
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

class Walk {
 public:
  Walk(const std::string& pattern, std::vector<FileFault>* faults) : faults_(faults) {
    for (const fs::path& part : fs::path(pattern)) parts_.push_back(part.string());
    from({}, 0);
  }

  std::vector<std::string> found;

 private:
  void tell(const fs::path& path, const FileError& fault) const {
    if (faults_) faults_->push_back({path.string(), 0, fault.rule(), fault.what()});
  }
  void tell(const fs::path& path, int error) const { tell(path, system_error(path.string(), error)); }

  void take(const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_regular_file(status)) {
      found.push_back(path.string());
    } else if (fs::is_symlink(path, error)) {  // it leads nowhere, or round in a circle
      if (!fs::exists(status)) tell(path, error_of(path));
    } else if (!fs::status_known(status)) {
      tell(path, error_of(path));
    } else if (fs::exists(status) && !fs::is_directory(status)) {
      tell(path, FileError("not_a_file", fmt::format("{}: a pipe, socket or device, expected a file",
                                                     printable_path(path.string()))));
    }
  }

  static int error_of(const fs::path& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? EIO : errno;
  }

  void from(const fs::path& folder, std::size_t at) {
    if (at == parts_.size()) return take(folder);
    const std::string& part = parts_[at];
    if (!is_pattern(part)) return from(folder / part, at + 1);
    const bool any_depth = part == "**";
    if (any_depth) from(folder, at + 1);
    std::error_code error;
    fs::directory_iterator entry(folder.empty() ? fs::path(".") : folder, error);
    // A file, or nothing at all, may well stand where a pattern would have a folder.
    if (error && error.value() != ENOENT && error.value() != ENOTDIR) tell(folder, error.value());
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      const fs::path path = folder / name;
      std::error_code ignored;
      if (any_depth) {
        if (entry->is_directory(ignored) && !entry->is_symlink(ignored)) from(path, at);
      } else if (::fnmatch(part.c_str(), name.c_str(), FNM_PERIOD) == 0) {
        from(path, at + 1);
      }
    }
  }

  std::vector<FileFault>* faults_;
  Parts parts_;
};

}  // namespace

std::vector<std::string> glob_files(const std::string& pattern, std::vector<FileFault>* faults) {
  std::error_code error;
  if (fs::is_regular_file(pattern, error)) return {pattern};
  std::vector<std::string> out = Walk(pattern, faults).found;
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<std::string> list_files(const std::string& source, const std::vector<std::string>& globs,
                                    std::vector<FileFault>& faults) {
  std::vector<std::string> out;
  std::set<std::string> seen, faulty;
  if (globs.empty()) fail_user("source {}: names no files", source);
  for (const std::string& glob : globs) {
    std::vector<FileFault> met;
    const std::vector<std::string> matches = glob_files(glob, &met);
    if (matches.empty() && met.empty()) fail_user("source {}: no file matches {}", source, printable_path(glob));
    for (FileFault& fault : met)  // several globs may come by it
      if (faulty.insert(fault.path).second) faults.push_back(std::move(fault));
    for (const std::string& path : matches) {
      if (seen.insert(path).second) out.push_back(path);
    }
  }
  return out;
}

}  // namespace dujiang::data
