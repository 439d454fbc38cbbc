#pragma once
// Adding to a dataset that is there: which files it was made of, and which texts it has.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus/dedup/work.h"
#include "data/shard/manifest.h"
#include "framework/base/files.h"

namespace dujiang::data {

/// A dataset's list of the files that it was made of, as sha256sum(1) writes and checks it.
inline constexpr const char* file_list = "files.sha256";

/// A line of it: a name with a newline or a backslash is escaped as sha256sum does. Of a file that couldn't be read the
/// digest is "-".
std::string digest_line(std::string_view digest, std::string_view path);
/// Digests by path. UserError naming the file when it is missing or malformed.
std::map<std::string, std::string> read_file_list(const std::filesystem::path& path);

/// Writes all of a file's bytes behind those that `out` has; a file that isn't there has none.
void append_file(DurableFile& out, const std::filesystem::path& path);

/// Compares the documents at hand with those of a dataset by the hashes that its shards hold: map over the shards and
/// the pieces, match over partitions of the hashes; then the clusters of a matched document's twins, for which the
/// phases of deduplicate() must be done.
std::vector<Phase> known_phases(const DedupWork& work, const std::filesystem::path& dataset, const Manifest& manifest);

/// After the phases: the documents of a piece whose text the dataset has, by their index in it, sorted.
std::vector<std::uint32_t> read_known(const DedupWork& work, std::uint64_t piece);
/// After the phases: the clusters that have such a document, sorted.
std::vector<std::uint64_t> read_known_clusters(const DedupWork& work);

}  // namespace dujiang::data
