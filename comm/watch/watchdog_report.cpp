#include "comm/watch/watchdog_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace dujiang::comm {
namespace {

// Why an operation doesn't complete because of one rank, gravest first.
enum class Fault { gone, silent, mismatch, ended, missing, busy, none };

struct Finding {
  int rank = 0;
  Fault fault = Fault::none;
};

const Peer& peer(const JobView& job, int rank) {
  return job.peers[static_cast<std::size_t>(rank)];
}

const SeenCommunicator* communicator_of(const Peer& p, std::string_view name) {
  return p.publication ? p.publication->find(name) : nullptr;
}

double age(const Peer& p, const SeenOperation& o) {
  return std::max(0.0, static_cast<double>(p.clock_ms - o.at_ms) / 1000.0);
}

// An operation and the communicator that it belongs to.
struct Placed {
  const SeenCommunicator* communicator = nullptr;
  const SeenOperation* operation = nullptr;
};

// What this rank has been in for longest.
Placed oldest_pending(const Peer& p) {
  Placed found;
  if (!p.publication) return found;
  for (const auto& c : p.publication->communicators) {
    for (const auto& o : c.operations) {
      if (!o.finished && (!found.operation || o.at_ms < found.operation->at_ms)) found = {&c, &o};
    }
  }
  return found;
}

Placed last_finished(const Peer& p) {
  Placed found;
  if (!p.publication) return found;
  for (const auto& c : p.publication->communicators) {
    for (const auto& o : c.operations) {
      if (o.finished && (!found.operation || o.at_ms >= found.operation->at_ms)) found = {&c, &o};
    }
  }
  return found;
}

Fault fault_of(const JobView& job, int rank, std::string_view communicator, const SeenOperation& wanted) {
  const Peer& p = peer(job, rank);
  if (p.gone) return Fault::gone;
  if (p.silent > 0) return Fault::silent;
  const auto* c = communicator_of(p, communicator);
  if (wanted.sequence > 0) {
    if (const auto* same = c ? c->find(wanted.sequence) : nullptr) {
      return same->signature == wanted.signature ? Fault::none : Fault::mismatch;
    }
    if (c && c->sequence >= wanted.sequence) return Fault::none;
  } else if (c && std::any_of(c->operations.begin(), c->operations.end(), [&](const SeenOperation& o) {
               return !o.finished && o.signature.op == wanted.signature.op;
             })) {
    return Fault::none;
  }
  if (p.ended) return Fault::ended;
  return oldest_pending(p).operation ? Fault::busy : Fault::missing;
}

// Of every other member, gravest first.
std::vector<Finding> findings(const JobView& job, int asker, std::string_view communicator,
                              const SeenOperation& wanted) {
  std::vector<Finding> all;
  const auto* own = communicator_of(peer(job, asker), communicator);
  if (!own) return all;
  for (const int rank : own->members) {
    if (rank == asker || rank < 0 || static_cast<std::size_t>(rank) >= job.peers.size()) continue;
    all.push_back({rank, fault_of(job, rank, communicator, wanted)});
  }
  std::stable_sort(all.begin(), all.end(), [](const Finding& a, const Finding& b) {
    return std::pair(a.fault, a.rank) < std::pair(b.fault, b.rank);
  });
  return all;
}

// "rank 1", "ranks 1, 2 and 5"
std::string ranks_text(const std::vector<int>& ranks) {
  constexpr std::size_t most = 8;
  if (ranks.size() == 1) return fmt::format("rank {}", ranks[0]);
  std::string text = "ranks ";
  for (std::size_t i = 0; i < ranks.size() && i < most; ++i) {
    const bool last = i + 1 == std::min(ranks.size(), most);
    text += fmt::format("{}{}", i == 0 ? "" : last && ranks.size() <= most ? " and " : ", ", ranks[i]);
  }
  if (ranks.size() > most) text += fmt::format(" and {} more", ranks.size() - most);
  return text;
}

std::string last_act(const Peer& p, std::string_view communicator) {
  const auto last = last_finished(p);
  if (!last.operation) return "requested nothing yet";
  const auto& o = *last.operation;
  if (last.communicator->name == communicator && o.sequence > 0) {
    return fmt::format("finished operation {} ({}, called from {}) {} ago", o.sequence, o.signature.str(), o.where,
                       seconds_text(age(p, o)));
  }
  return fmt::format("finished {} {} ago", operation_text(o, last.communicator->name), seconds_text(age(p, o)));
}

std::string blame(const JobView& job, int asker, std::string_view communicator, const SeenOperation& wanted,
                  std::set<int>& asked);

// "rank 2, which ..."
std::string accuse(const JobView& job, const Finding& finding, std::string_view communicator,
                   const SeenOperation& wanted, std::set<int>& asked) {
  const Peer& p = peer(job, finding.rank);
  const std::string who = fmt::format("rank {}", finding.rank);
  const auto pending = oldest_pending(p);
  switch (finding.fault) {
    case Fault::gone:
      return who + ", whose process is gone";
    case Fault::silent: {
      std::string text = fmt::format("{}, which has shown no sign of life for {} (stopped, or its host is unreachable)",
                                     who, seconds_text(p.silent));
      if (pending.operation) {
        text += fmt::format("; it was last seen in {}", operation_text(*pending.operation, pending.communicator->name));
      } else if (last_finished(p).operation) {
        text += "; before, it " + last_act(p, communicator);
      }
      return text;
    }
    case Fault::mismatch: {
      const auto& theirs = *communicator_of(p, communicator)->find(wanted.sequence);
      return fmt::format("{}, which requested {} (called from {}) as operation {} instead", who, theirs.signature.str(),
                         theirs.where, wanted.sequence);
    }
    case Fault::ended:
      return fmt::format("{}, which {}; its program has ended", who, last_act(p, communicator));
    case Fault::missing: {
      const auto* c = communicator_of(p, communicator);
      std::string text = fmt::format("{}, which {}", who, last_act(p, communicator));
      if (c && c->closed) return text + " and has closed the communicator; its process is alive";
      return text + (last_finished(p).operation ? " and has requested nothing since" : "") + "; its process is alive";
    }
    case Fault::busy: {
      const auto& o = *pending.operation;
      std::string text = fmt::format("{}, which has been in {} for {} instead", who,
                                     operation_text(o, pending.communicator->name), seconds_text(age(p, o)));
      if (asked.insert(finding.rank).second) {
        const auto next = blame(job, finding.rank, pending.communicator->name, o, asked);
        if (!next.empty()) text += ", waiting for " + next;
      }
      return text;
    }
    case Fault::none:
      break;
  }
  return who;
}

// Whom `asker` waits for in `wanted`, or empty when every other member has requested it.
std::string blame(const JobView& job, int asker, std::string_view communicator, const SeenOperation& wanted,
                  std::set<int>& asked) {
  const auto all = findings(job, asker, communicator, wanted);
  if (all.empty() || all[0].fault == Fault::none) return {};
  std::string text = accuse(job, all[0], communicator, wanted, asked);
  std::vector<int> more;
  for (const auto& f : all) {
    if (f.rank != all[0].rank && f.fault != Fault::none) more.push_back(f.rank);
  }
  std::sort(more.begin(), more.end());
  if (!more.empty()) text += fmt::format(" ({} {} missing too)", ranks_text(more), more.size() == 1 ? "is" : "are");
  return text;
}

std::string head(const JobView& job) {
  return fmt::format("dujiang: rank {} of {}: ", job.rank, job.peers.size());
}

}  // namespace

std::string seconds_text(double seconds) {
  return seconds < 9.95 ? fmt::format("{:.1f} s", seconds) : fmt::format("{:.0f} s", seconds);
}

std::string operation_text(const SeenOperation& o, std::string_view communicator) {
  const auto number = o.sequence > 0 ? fmt::format(", operation {}", o.sequence) : std::string();
  return fmt::format("{} (communicator {}{}, called from {})", o.signature.str(), communicator, number, o.where);
}

std::string describe_wait(const JobView& job, std::string_view communicator, const SeenOperation& operation,
                          double waited) {
  std::string text =
      fmt::format("{}{} has waited {}", head(job), operation_text(operation, communicator), seconds_text(waited));
  if (!job.store_is_silent.empty()) {
    return fmt::format(
        "{} for rank 0, whose process doesn't answer (stopped, or its host is unreachable; it holds the "
        "job's store, {})",
        text, job.store_is_silent);
  }
  std::set<int> asked{job.rank};
  const auto whom = blame(job, job.rank, communicator, operation, asked);
  if (!whom.empty()) return text + " for " + whom;
  std::vector<int> inside, outside;
  const auto* own = communicator_of(peer(job, job.rank), communicator);
  for (const int rank : own ? own->members : std::vector<int>()) {
    const auto* c = communicator_of(peer(job, rank), communicator);
    const auto* same = c ? c->find(operation.sequence) : nullptr;
    if (rank != job.rank) (same && !same->finished ? inside : outside).push_back(rank);
  }
  text += " though every rank has requested it";
  if (!inside.empty()) text += fmt::format("; {} {} in it too", ranks_text(inside), inside.size() == 1 ? "is" : "are");
  if (!outside.empty()) {
    text += fmt::format("; {} {} finished it", ranks_text(outside), outside.size() == 1 ? "has" : "have");
  }
  return text + "; the transfer doesn't progress";
}

std::string describe_death(const JobView& job, const std::vector<int>& gone) {
  const Peer& self = peer(job, job.rank);
  std::string text = head(job);
  text += gone.size() == 1
              ? fmt::format("rank {}'s process is gone (no farewell) while this rank ", gone[0])
              : fmt::format("the processes of {} are gone (no farewell) while this rank ", ranks_text(gone));
  if (const auto pending = oldest_pending(self); pending.operation) {
    return text + fmt::format("was in {} for {}", operation_text(*pending.operation, pending.communicator->name),
                              seconds_text(age(self, *pending.operation)));
  }
  const auto last = last_finished(self);
  if (!last.operation) return text + "computed; it had communicated nothing yet";
  return text + fmt::format("computed; its last operation was {}, finished {} ago",
                            operation_text(*last.operation, last.communicator->name),
                            seconds_text(age(self, *last.operation)));
}

std::string describe_bystander(const JobView& job, int speaker) {
  const Peer& self = peer(job, job.rank);
  const auto last = last_finished(self);
  std::string text =
      fmt::format("{}ends because rank {} gave up waiting; this rank was in no operation", head(job), speaker);
  if (!last.operation) return text + " and had communicated nothing yet";
  return text + fmt::format(", its last one was {}, finished {} ago",
                            operation_text(*last.operation, last.communicator->name),
                            seconds_text(age(self, *last.operation)));
}

std::string describe_mismatch(std::string_view communicator, int rank, const SeenOperation& own, int other,
                              const SeenOperation& theirs) {
  return fmt::format(
      "ranks disagree on operation {} of communicator {}: rank {} requested {} (called from {}), rank {} requested {} "
      "(called from {})",
      own.sequence, communicator, rank, own.signature.str(), own.where, other, theirs.signature.str(), theirs.where);
}

bool left_alone(const JobView& job, std::string_view communicator, const SeenOperation& operation) {
  const auto* own = communicator_of(peer(job, job.rank), communicator);
  if (!own || operation.sequence == 0) return false;
  return std::any_of(own->members.begin(), own->members.end(), [&](int rank) {
    const Peer& p = peer(job, rank);
    const auto* c = communicator_of(p, communicator);
    return rank != job.rank && p.ended && c && c->sequence < operation.sequence;
  });
}

}  // namespace dujiang::comm
