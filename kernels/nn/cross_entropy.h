#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex {

/// Arguments of cross_entropy. B samples, K classes. Either labels or targets.
struct CrossEntropyArgs {
  ConstTensorView logits;     ///< (B, K)
  ConstTensorView labels{};   ///< (B) i32 in [0, K): trusted, whoever reads them in checks them
  ConstTensorView targets{};  ///< (B, K) in the gate's type: a distribution over the classes for each sample
  double label_smoothing = 0.0;  ///< s: targets become (1 - s) targets + s / K
  std::int64_t batch = 0;        ///< samples that the mean is over, B and those of other ranks; 0: B
  TensorView losses;             ///< (B) in the gate's type, out: of each sample
  TensorView loss;               ///< (1) in the gate's type, out: sum of losses / batch
  TensorView dlogits{};          ///< (B, K) out, optional: gradient; may be the memory of logits
  double dloss = 1.0;            ///< gradient of the total by `loss`: a loss scale
};

/// Softmax cross entropy and, in the same pass, its gradient: losses[b] = sum_k target[b, k]
/// (logsumexp(logits[b])
/// - logits[b, k]), dlogits = dloss / batch * (softmax sum_k target - target). Computed in the gate's type;
/// sums have a fixed order: equal bits on repeat. @throws InputError for shapes or types that disagree.
/// @source Szegedy et al., "Rethinking the Inception Architecture", 7, for the smoothing
void cross_entropy(const CrossEntropyArgs& args, Stream& stream);

template <class T>
void cross_entropy_cpu(const CrossEntropyArgs& args);

#ifdef FLEX_HAS_CUDA
void cross_entropy_cuda(const CrossEntropyArgs& args, Stream& stream);
#endif

}  // namespace flex
