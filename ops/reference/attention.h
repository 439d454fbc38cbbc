#pragma once
// Plain loops with double accumulation: the oracle of the attention kernels. Contracts: ops/attention.h.

#include "ops/attention.h"

namespace dujiang::ops::reference {

void attention(const View& q, const View& k, const View& v, const Segments& segments, float scale, const View& o,
               const View& lse);
void attention_backward(const View& d_o, const View& q, const View& k, const View& v, const View& o, const View& lse,
                        const Segments& segments, float scale, const View& dq, const View& dk, const View& dv);

}  // namespace dujiang::ops::reference
