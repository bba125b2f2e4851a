#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/adaptive_layer.h"
#include "runtime/recorded_layer.h"
#include "runtime/routed_tokens.h"
#include "tests/runtime/scripted_policy.h"
#include "traces/trace_reader.h"

/// Layers on in-process ranks whose tokens go where a test says, and what was recorded of them.
namespace flex::testing {

inline constexpr std::int64_t kRecordedExperts = 4;

/// Wide enough for routed_tokens().
inline MoeConfig recorded_config() {
  return {.model_dim = 128, .hidden_dim = 8, .num_experts = kRecordedExperts};
}

/// Tokens of one rank, with what a pass of them needs.
struct KnownTokens {
  Tensor x, y, dx;

  /// @param choices (T, k)
  KnownTokens(const std::vector<std::int64_t>& choices, std::int64_t top_k, MoeLayer& layer) {
    PhiloxStream noise(3);
    x = routed_tokens(choices, top_k, layer.parameters().at("gate.wg.weight").value, DType::kF32, noise);
    y = Tensor(DType::kF32, x.shape());
    dx = Tensor(DType::kF32, x.shape());
  }
};

/// One iteration of `layer`, which is an AdaptiveLayer or a RecordedLayer; y stands for its gradient.
template <class Layer>
ForwardResult run_passes(Layer& layer, KnownTokens& tokens, const ForwardCall& call, Stream& stream) {
  const ForwardResult result = layer.forward(tokens.x, tokens.y, call, stream);
  if (call.training) layer.backward(tokens.y, tokens.dx, 0.1, stream);
  return result;
}

/// A header of layers like recorded_config(), with a full batch of 3 tokens.
inline TraceHeader header_of(int world, const std::vector<ForwardCall>& calls) {
  TraceHeader header{.model = "a test", .world = world, .ranks_per_node = 1, .origins = {TraceOrigin{}}};
  for (const ForwardCall& call : calls) {
    header.layers.push_back(trace_layer_of(recorded_config(), call, 3, world));
  }
  return header;
}

struct Recording {
  TraceHeader header;
  std::vector<TraceRecord> records;
  std::optional<TraceTrailer> trailer;
};

inline Recording read_recording(const std::filesystem::path& file) {
  TraceReader reader(file);
  Recording recording{.header = reader.header()};
  for (TraceRecord record; reader.next(record);) recording.records.push_back(record);
  recording.trailer = reader.trailer();
  return recording;
}

}  // namespace flex::testing
