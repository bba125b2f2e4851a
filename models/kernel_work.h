#pragma once

#include "kernels/nn/cross_entropy.h"
#include "kernels/nn/dropout.h"
#include "kernels/nn/layer_norm.h"
#include "kernels/nn/linear.h"
#include "kernels/nn/patches.h"
#include "kernels/nn/pooling.h"
#include "kernels/nn/position_bias.h"
#include "kernels/nn/residual.h"
#include "kernels/nn/trained_tensors.h"
#include "kernels/nn/window_attention.h"
#include "runtime/device_ceilings.h"

namespace flex {

struct Operation;

/// The least that an operation can do: what no implementation of it is spared.
struct KernelWork {
  double multiply_accumulates = 0;  ///< of matrix products
  double bytes = 0;                 ///< tensors read and tensors written, each once

  friend bool operator==(const KernelWork&, const KernelWork&) = default;
};

/// Microseconds below which a device of these ceilings cannot do the work: the products at the rate of a
/// large one, or the bytes at that of a large copy, whichever takes longer.
[[nodiscard]] double floor_us(const KernelWork& work, const DeviceCeilings& ceilings);

/// Work of one call. What is optional counts if it is there, and so does reading a tensor that is added to.
/// Attention has two products forward, and five backward: the scores once more, and four gradients.
[[nodiscard]] KernelWork work_of(const LinearArgs& args);
[[nodiscard]] KernelWork work_of(const LinearBackwardArgs& args);
[[nodiscard]] KernelWork work_of(const WindowAttentionArgs& args);
[[nodiscard]] KernelWork work_of(const WindowAttentionBackwardArgs& args);
[[nodiscard]] KernelWork work_of(const LayerNormArgs& args);
[[nodiscard]] KernelWork work_of(const LayerNormBackwardArgs& args);
[[nodiscard]] KernelWork work_of(const AddResidualArgs& args);
[[nodiscard]] KernelWork work_of(const ScaleRowsArgs& args);
[[nodiscard]] KernelWork work_of(const DropoutArgs& args);
[[nodiscard]] KernelWork work_of(const PatchRowsArgs& args);
[[nodiscard]] KernelWork work_of(const MergePatchesArgs& args);
[[nodiscard]] KernelWork work_of(const MergePatchesBackwardArgs& args);
[[nodiscard]] KernelWork work_of(const MeanPoolArgs& args);
[[nodiscard]] KernelWork work_of(const MeanPoolBackwardArgs& args);
[[nodiscard]] KernelWork work_of(const PositionBiasArgs& args);
[[nodiscard]] KernelWork work_of(const PositionBiasBackwardArgs& args);
[[nodiscard]] KernelWork work_of(const CrossEntropyArgs& args);

/// Norm, clipping and AdamW of all tensors: gradients are read twice, since the norm of all comes first;
/// parameters and what is kept of them are read and written.
[[nodiscard]] KernelWork optimizer_work(const TrainedTensors& tensors);

/// One operation of a MoE layer's schedule: what is computed on this rank; exchanges count as nothing.
[[nodiscard]] KernelWork work_of(const Operation& operation);

}  // namespace flex
