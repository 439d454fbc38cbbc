#include "data/corpus/dedup/clusters.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>

#include "data/corpus/dedup/exact.h"
#include "data/corpus/dedup/near.h"
#include "data/corpus/dedup/sorter.h"
#include "data/corpus/piece_file.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

constexpr std::string_view cluster_phase = "clusters", member_phase = "members";

// The documents that have an edge, as the nodes of a forest: a node's root is the first document of its cluster.
class Clusters {
 public:
  explicit Clusters(const DedupWork& work) : work_(work) {
    find_documents();
    const std::size_t n = documents_.size();
    DUJIANG_CHECK(n < std::numeric_limits<std::uint32_t>::max(), "{} documents have twins: more than 2^32", n);
    parent_.resize(n);
    for (std::size_t i = 0; i < n; ++i) parent_[i] = static_cast<std::uint32_t>(i);
    hash_.resize(n);
    for_each_edge([&](const Edge& edge) {
      const auto a = node(edge.a), b = node(edge.b);
      hash_[a] = edge.hash_a;
      hash_[b] = edge.hash_b;
      const auto x = root(a), y = root(b);
      parent_[std::max(x, y)] = std::min(x, y);
    });
    for (std::uint32_t i = 0; i < n; ++i) parent_[i] = root(i);
  }

  void choose(const ClusterConfig& config) {
    kept_ = parent_;
    if (config.keep == Keep::first) return;
    std::vector<double> best(documents_.size(), -std::numeric_limits<double>::infinity());
    std::unique_ptr<PieceReader> reader;
    for (std::uint32_t i = 0; i < documents_.size(); ++i) {
      const auto piece = piece_of(documents_[i]);
      if (i == 0 || piece != piece_of(documents_[i - 1])) reader = std::make_unique<PieceReader>(work_.texts(piece));
      const double merit = merit_of(reader->records()[index_of(documents_[i])], config);
      // Documents come in order, so that of equal ones the first stays.
      if (merit > best[parent_[i]]) {
        best[parent_[i]] = merit;
        kept_[parent_[i]] = i;
      }
    }
  }

  void write(const std::filesystem::path& path) const {
    std::vector<std::uint64_t> cluster(documents_.size(), ~std::uint64_t{0});  // by root
    for (std::size_t i = 0; i < documents_.size(); ++i) cluster[parent_[i]] = std::min(cluster[parent_[i]], hash_[i]);
    const auto nearness = similarities();
    SectionWriter writer(path, sizeof(Member), work_.pieces);
    for (std::uint32_t i = 0; i < documents_.size(); ++i) {
      const auto kept = kept_[parent_[i]];
      // Equal texts meet here where nobody looked for them before.
      const bool same = hash_[i] == hash_[kept];
      const Twin twin = i == kept ? Twin::none : same ? Twin::exact : Twin::near;
      const Member member{
          cluster[parent_[i]], documents_[kept], index_of(documents_[i]), same ? 1 : nearness[i], twin, 0};
      writer.append(piece_of(documents_[i]), &member, 1);
    }
    writer.commit();
  }

 private:
  template <class Body>
  void for_each_edge(Body&& body) const {
    std::vector<Edge> edges;
    for (std::uint64_t p = 0; p < work_.partitions; ++p) {
      edges.clear();
      SectionReader(work_.file(near_edges, p), sizeof(Edge)).append_section(0, edges);
      for (const auto& edge : edges) body(edge);
    }
  }

  void find_documents() {
    Sorter<DocumentId> documents(work_.scratch(cluster_phase, 0), work_.sort_bytes);
    for_each_edge([&](const Edge& edge) {
      documents.add(edge.a);
      documents.add(edge.b);
    });
    documents.for_each([&](DocumentId document) {
      if (documents_.empty() || documents_.back() != document) documents_.push_back(document);
    });
    documents_.shrink_to_fit();
  }

  std::uint32_t node(DocumentId document) const {
    return static_cast<std::uint32_t>(std::lower_bound(documents_.begin(), documents_.end(), document) -
                                      documents_.begin());
  }

  std::uint32_t root(std::uint32_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }

  // Of each node to the one of its cluster that stays, or the highest to any where there is no such edge.
  std::vector<float> similarities() const {
    std::vector<float> found(documents_.size(), 0);
    std::vector<bool> direct(documents_.size());
    for_each_edge([&](const Edge& edge) {
      const auto a = node(edge.a), b = node(edge.b);
      const auto kept = hash_[kept_[parent_[a]]];
      const auto see = [&](std::uint32_t of, std::uint32_t other) {
        if (hash_[other] == kept) {  // all of these are equal texts
          found[of] = edge.similarity;
          direct[of] = true;
        } else if (!direct[of]) {
          found[of] = std::max(found[of], edge.similarity);
        }
      };
      see(a, b);
      see(b, a);
    });
    return found;
  }

  const DedupWork& work_;
  std::vector<DocumentId> documents_;  // sorted; all that follows is by the index in it
  std::vector<std::uint32_t> parent_;  // from the constructor's end on the root
  std::vector<std::uint64_t> hash_;
  std::vector<std::uint32_t> kept_;  // by root
};

bool by_index(const Member& a, const Member& b) {
  return a.index < b.index;
}

// The near twins of a piece and its exact ones, each with what became of the one kept of those that equal it.
std::vector<Member> collect(const DedupWork& work, bool exact, bool near, std::uint64_t piece) {
  std::vector<Member> members, elsewhere;
  std::optional<SectionReader> clusters;
  if (near) clusters.emplace(work.file(cluster_phase, 0), sizeof(Member));
  if (near) clusters->append_section(piece, members);
  if (!exact) return members;

  auto repeats = read_repeats(work, piece);
  // By the kept ones, so that the members of each of their pieces are read once.
  std::sort(repeats.begin(), repeats.end(), [](const Repeat& a, const Repeat& b) {
    return std::tie(a.kept, a.document) < std::tie(b.kept, b.document);
  });
  const std::size_t near_members = members.size();
  std::optional<std::uint64_t> open;
  for (const auto& [document, kept, hash] : repeats) {
    if (near && open != piece_of(kept)) {
      open = piece_of(kept);
      elsewhere.clear();
      clusters->append_section(*open, elsewhere);
    }
    Member member{hash, kept, index_of(kept), 1, Twin::none, 0};
    const auto found = std::lower_bound(elsewhere.begin(), elsewhere.end(), member, by_index);
    const bool has_near = found != elsewhere.end() && found->index == member.index;
    if (document == kept && has_near) continue;  // it is there already
    if (has_near) member = *found;
    if (document != kept && member.twin == Twin::none) member.twin = Twin::exact;
    member.index = index_of(document);
    members.push_back(member);
  }
  std::sort(members.begin() + static_cast<std::ptrdiff_t>(near_members), members.end(), by_index);
  std::inplace_merge(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(near_members), members.end(),
                     by_index);
  return members;
}

}  // namespace

std::vector<Phase> cluster_phases(const DedupWork& work, const ClusterConfig& config, bool exact, bool near) {
  std::vector<Phase> phases;
  if (near) {
    phases.push_back({cluster_phase, 1, [work](std::uint64_t) { return work.file(cluster_phase, 0); },
                      [=](std::uint64_t) {
                        Clusters clusters(work);
                        clusters.choose(config);
                        clusters.write(work.file(cluster_phase, 0));
                      }});
  }
  phases.push_back({member_phase, work.pieces, [work](std::uint64_t piece) { return work.file(member_phase, piece); },
                    [=](std::uint64_t piece) {
                      const auto members = collect(work, exact, near, piece);
                      SectionWriter writer(work.file(member_phase, piece), sizeof(Member), 1);
                      writer.append(0, members.data(), members.size());
                      writer.commit();
                    }});
  return phases;
}

std::vector<Member> read_members(const DedupWork& work, std::uint64_t piece) {
  std::vector<Member> members;
  SectionReader(work.file(member_phase, piece), sizeof(Member)).append_section(0, members);
  return members;
}

}  // namespace dujiang::data
