#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/safetensors.h"
#include "runtime/moe_layer.h"

/// Files of reference results: single passes of a layer, and training curves. Layout: a file whose metadata
/// has `config` and which holds `losses` is a training curve; otherwise every key of the metadata is a case,
/// its value a JSON configuration, and its tensors are CASE/NAME: x, dy, param.*, and outputs (y, dx, l_aux,
/// scores, indices, locations, gates, grad.*).
namespace flex {

/// One layer as a file describes it. What the JSON does not say follows from the shapes, or is the default.
struct LayerDescription {
  MoeConfig config;
  ForwardCall call;                                                   ///< top_k, capacity_factor, add_noise
  std::vector<std::pair<std::string, SafetensorsTensor>> parameters;  ///< by the layer's names
};

/// One forward and backward pass with its expected outputs.
struct LayerCase {
  std::string name;
  LayerDescription layer;
  double loss_gradient = 0.0;              ///< weight of the auxiliary loss in the backward pass
  std::int64_t capacity = -1;              ///< expected C, or -1 if the file does not say
  std::vector<SafetensorsTensor> tensors;  ///< all of the case; names without the case's
};

/// A training run with its expected losses: plain SGD on mean nll(log_softmax(sum of the output over M)) of
/// the batch x sequence score matrix, plus aux_weight * auxiliary loss; losses are the nll before each
/// update.
struct TrainingCurve {
  LayerDescription layer;
  double aux_weight = 0.0;
  double learning_rate = 0.0;
  std::int64_t batch = 0;
  std::int64_t sequence = 0;
  std::vector<float> x;                       ///< (batch, sequence, M)
  std::vector<std::int32_t> labels;           ///< (batch), each below sequence
  std::vector<float> losses;                  ///< one per step
  std::vector<SafetensorsTensor> uncompared;  ///< tensors that are neither inputs nor losses
};

[[nodiscard]] bool is_training_curve(const SafetensorsFile& file);
/// Tensors stay in the file, which must outlive the result.
/// @throws InputError naming case and tensor for configurations or shapes that cannot be.
[[nodiscard]] std::vector<LayerCase> read_layer_cases(const SafetensorsFile& file);
[[nodiscard]] TrainingCurve read_training_curve(const SafetensorsFile& file);
std::vector<LayerCase> read_layer_cases(SafetensorsFile&& file) = delete;
TrainingCurve read_training_curve(SafetensorsFile&& file) = delete;

/// Copies the file's parameters into the layer's shards. @throws InputError for a missing one, an unknown one
/// or a wrong shape.
void load_parameters(const LayerDescription& description, MoeLayer& layer);

}  // namespace flex
