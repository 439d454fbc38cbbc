#include "ops/reference/embedding.h"

#include "ops/reference/access.h"

namespace dujiang::ops::reference {

void embedding(Stream&, const View& tokens, const View& table, const View& y) {
  for (std::int64_t i = 0; i < y.shape[0]; ++i) {
    const auto token = static_cast<std::int64_t>(get(tokens, {i}));
    for (std::int64_t j = 0; j < y.shape[1]; ++j) set(y, {i, j}, token < 0 ? -0.0 : get(table, {token, j}));
  }
}

void embedding_backward(Stream&, const View& tokens, const View& dy, const View& dtable, bool accumulate) {
  if (!accumulate)
    for (std::int64_t i = 0; i < dtable.shape[0]; ++i)
      for (std::int64_t j = 0; j < dtable.shape[1]; ++j) set(dtable, {i, j}, 0);
  for (std::int64_t i = 0; i < dy.shape[0]; ++i) {
    const auto token = static_cast<std::int64_t>(get(tokens, {i}));
    if (token < 0) continue;
    for (std::int64_t j = 0; j < dy.shape[1]; ++j) set(dtable, {token, j}, get(dtable, {token, j}) + get(dy, {i, j}));
  }
}

}  // namespace dujiang::ops::reference
