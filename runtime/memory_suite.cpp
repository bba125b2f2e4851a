#include "runtime/memory_suite.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"

namespace flex {
namespace {

// Both formulations round their operands alike but sum in other orders, at worst products of TF32 or bf16.
constexpr double kMostDifference = 5e-2;

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0;
  double magnitude = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::fabs(a[i] - b[i]));
    magnitude = std::max(magnitude, std::fabs(a[i]));
  }
  return magnitude > 0 ? difference / magnitude : difference;
}

}  // namespace

MemorySuiteResult run_memory_suite(DType dtype, bool allow_tf32, Device device,
                                   const std::function<void(int, int)>& progress) {
  MemorySuiteResult result{.layer = {.config = {.model_dim = 4096,
                                                .hidden_dim = 4096,
                                                .num_experts = 2,
                                                .dtype = dtype,
                                                .activation = Activation::kRelu},
                                     .top_k = 2,
                                     .capacity_factor = 1.0,
                                     .allow_tf32 = allow_tf32},
                           .rows = {{.tokens = 4096, .fairseq_GiB = 3.7, .tutel_GiB = 2.9},
                                    {.tokens = 8192, .fairseq_GiB = 6.2, .tutel_GiB = 3.2},
                                    {.tokens = 16384, .fairseq_GiB = 16.3, .tutel_GiB = 4.0},
                                    {.tokens = 32768, .fairseq_GiB = 57.9, .tutel_GiB = 5.7}}};
  int done = 0;
  const auto measure = [&](const MemorySuiteRow& row, LayerFormulation formulation) {
    LayerTraining training = result.layer;
    training.num_tokens = row.tokens;
    std::optional<TrainingMemory> memory = measure_training_memory(training, formulation, device);
    if (progress) progress(++done, 2 * static_cast<int>(result.rows.size()));
    return memory;
  };
  for (MemorySuiteRow& row : result.rows) {
    row.flex = measure(row, LayerFormulation::kFlex);
    row.einsum = measure(row, LayerFormulation::kEinsum);
    if (!row.flex || !row.einsum) continue;
    row.output_difference = largest_difference(row.flex->outputs, row.einsum->outputs);
    require<DeviceError>(row.output_difference <= kMostDifference,
                         "with {} tokens the einsum baseline's outputs differ from the layer's by {} of the "
                         "largest magnitude, more than {}",
                         row.tokens, row.output_difference, kMostDifference);
  }
  return result;
}

}  // namespace flex
