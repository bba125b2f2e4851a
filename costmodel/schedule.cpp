#include "costmodel/schedule.h"

#include <fmt/format.h>

namespace flex {

std::string_view name(OperationKind kind) {
  static constexpr std::array<std::string_view, kNumOperationKinds> kNames = {"agree_tokens",
                                                                              "gate",
                                                                              "gate_noise",
                                                                              "route",
                                                                              "gate_loss_sums",
                                                                              "reduce_gate_loss",
                                                                              "gate_loss_value",
                                                                              "agree_capacity",
                                                                              "gather_weights",
                                                                              "encode",
                                                                              "decode",
                                                                              "expert_ffn",
                                                                              "all_to_all",
                                                                              "node_copy",
                                                                              "node_all_to_all",
                                                                              "rail_copy",
                                                                              "rail_all_to_all",
                                                                              "rows_to_experts",
                                                                              "rows_from_experts",
                                                                              "sum_copies",
                                                                              "decode_backward",
                                                                              "expert_ffn_backward_data",
                                                                              "expert_ffn_backward_fc1",
                                                                              "expert_ffn_backward_fc2",
                                                                              "scatter_gradients",
                                                                              "encode_backward",
                                                                              "gate_backward",
                                                                              "reduce_gate_gradients",
                                                                              "reduce_shared_gradients"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::optional<OperationKind> parse_operation_kind(std::string_view text) {
  for (int i = 0; i < kNumOperationKinds; ++i) {
    if (name(static_cast<OperationKind>(i)) == text) return static_cast<OperationKind>(i);
  }
  return std::nullopt;
}

std::vector<std::string> operation_kind_names() {
  std::vector<std::string> names;
  for (int i = 0; i < kNumOperationKinds; ++i) names.emplace_back(name(static_cast<OperationKind>(i)));
  return names;
}

std::string_view name(StreamKind stream) {
  switch (stream) {
    case StreamKind::kHost:
      return "host";
    case StreamKind::kCompute:
      return "compute";
    case StreamKind::kCommunication:
      return "communication";
  }
  return "?";
}

std::string label(const Operation& operation) {
  std::string text;
  if (operation.direction == Direction::kDispatch) text = "dispatch/";
  if (operation.direction == Direction::kCombine) text = "combine/";
  text += name(operation.kind);
  if (operation.num_chunks > 1) text += fmt::format("#{}of{}", operation.chunk + 1, operation.num_chunks);
  return text;
}

}  // namespace flex
