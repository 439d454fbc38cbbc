// The slots of all ops. They are constant-initialised, so a backend may register before main in any order.

#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/loss.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/optim.h"

namespace dujiang::ops {

constinit decltype(matmul) matmul{"matmul"};

constinit decltype(rms_norm) rms_norm{"rms_norm"};
constinit decltype(add_rms_norm) add_rms_norm{"add_rms_norm"};
constinit decltype(rms_norm_backward) rms_norm_backward{"rms_norm_backward"};
constinit decltype(norm_rope) norm_rope{"norm_rope"};
constinit decltype(norm_rope_backward) norm_rope_backward{"norm_rope_backward"};

constinit decltype(attention) attention{"attention"};
constinit decltype(attention_backward) attention_backward{"attention_backward"};

constinit decltype(softmax_cross_entropy) softmax_cross_entropy{"softmax_cross_entropy"};
constinit decltype(softmax_statistics) softmax_statistics{"softmax_statistics"};
constinit decltype(combine_softmax_statistics) combine_softmax_statistics{"combine_softmax_statistics"};
constinit decltype(softmax_gradient) softmax_gradient{"softmax_gradient"};

constinit decltype(embedding) embedding{"embedding"};
constinit decltype(embedding_backward) embedding_backward{"embedding_backward"};

constinit decltype(copy) copy{"copy"};
constinit decltype(fill) fill{"fill"};
constinit decltype(add) add{"add"};
constinit decltype(multiply) multiply{"multiply"};
constinit decltype(scale) scale{"scale"};
constinit decltype(swiglu) swiglu{"swiglu"};
constinit decltype(swiglu_backward) swiglu_backward{"swiglu_backward"};
constinit decltype(sum) sum{"sum"};
constinit decltype(sum_of_squares) sum_of_squares{"sum_of_squares"};

constinit decltype(adamw) adamw{"adamw"};
constinit decltype(split_f32) split_f32{"split_f32"};
constinit decltype(join_f32) join_f32{"join_f32"};

}  // namespace dujiang::ops
