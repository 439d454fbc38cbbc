#pragma once
// The oracles of ops/embedding.h: plain loops, any strides and dtypes.

#include "framework/base/view.h"

namespace dujiang::ops::reference {

void embedding(Stream&, const View& tokens, const View& table, const View& y);
void embedding_backward(Stream&, const View& tokens, const View& dy, const View& dtable, bool accumulate);

}  // namespace dujiang::ops::reference
