#include "models/checkpoint/parameter_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace flex {
namespace {

constexpr std::string_view kHead = "head.";
constexpr std::string_view kFcHead = "head.fc.";
constexpr std::string_view kLayers = "layers.";
constexpr std::string_view kDownsample = ".downsample.";
constexpr std::string_view kMoe = ".mlp.moe.";
constexpr std::string_view kReleasedMoe = ".mlp._moe_layer.";
constexpr std::string_view kOldGate = "gate.";
constexpr std::string_view kGate = "gates.0.";

// The stage of `layers.{stage}.downsample.…`.
std::optional<std::int64_t> stage_of_merging(std::string_view name) {
  if (!name.starts_with(kLayers)) return std::nullopt;
  std::int64_t stage = 0;
  const char* const last = name.data() + name.size();
  const auto [end, error] = std::from_chars(name.data() + kLayers.size(), last, stage);
  const std::string_view rest(end, static_cast<std::size_t>(last - end));
  if (error != std::errc{} || !rest.starts_with(kDownsample)) return std::nullopt;
  return stage;
}

std::string_view moe_part(const ParameterNaming& naming) {
  return naming.is_released_moe ? kReleasedMoe : kMoe;
}

// Where the part after `.mlp.moe.` begins, and which of the two stands before it.
struct MoePlace {
  std::size_t begin = std::string_view::npos;
  std::size_t end = std::string_view::npos;
};
std::optional<MoePlace> moe_place(std::string_view name) {
  for (const std::string_view part : {kMoe, kReleasedMoe}) {
    const std::size_t begin = name.find(part);
    if (begin != std::string_view::npos) return MoePlace{begin, begin + part.size()};
  }
  return std::nullopt;
}

}  // namespace

ParameterNaming naming_of(BlockKind block) {
  return block == BlockKind::kSwinV2 ? kTimmNaming : kSwinMoeNaming;
}

ParameterNaming naming_of(std::span<const std::string> names) {
  const auto any = [&](const auto& holds) { return std::ranges::any_of(names, holds); };
  return {.has_fc_head = any([](const std::string& name) { return name.starts_with(kFcHead); }),
          .merges_before = !any([](const std::string& name) { return stage_of_merging(name) == 0; }),
          .is_released_moe =
              any([](const std::string& name) { return name.find(kReleasedMoe) != std::string::npos; })};
}

BlockKind block_of(std::span<const std::string> names) {
  const bool is_cosine =
      std::ranges::any_of(names, [](const std::string& name) { return name.ends_with(".attn.logit_scale"); });
  return is_cosine ? BlockKind::kSwinV2 : BlockKind::kSwinMoe;
}

std::string renamed(std::string_view name, const ParameterNaming& from, const ParameterNaming& to) {
  const std::string_view head = from.has_fc_head ? kFcHead : kHead;
  if (name.starts_with(head))
    return fmt::format("{}{}", to.has_fc_head ? kFcHead : kHead, name.substr(head.size()));
  if (const auto stage = stage_of_merging(name)) {
    const std::int64_t merging = *stage - (from.merges_before ? 1 : 0);
    return fmt::format("{}{}{}", kLayers, merging + (to.merges_before ? 1 : 0),
                       name.substr(name.find(kDownsample)));
  }
  if (const auto place = moe_place(name)) {
    std::string_view tail = name.substr(place->end);
    const bool is_old = tail.starts_with(kOldGate);
    if (is_old) tail.remove_prefix(kOldGate.size());
    return fmt::format("{}{}{}{}", name.substr(0, place->begin), moe_part(to), is_old ? kGate : "", tail);
  }
  return std::string(name);
}

bool is_buffer(std::string_view name) {
  return std::ranges::any_of(std::initializer_list<std::string_view>{kCoordinatesBuffer, kIndexBuffer,
                                                                     kMaskBuffer, kNumExpertsBuffer},
                             [&](std::string_view buffer) { return name.ends_with(buffer); });
}

std::optional<std::string> moe_prefix(std::string_view name) {
  const auto place = moe_place(name);
  if (!place) return std::nullopt;
  return std::string(name.substr(0, place->end));
}

bool is_of_experts(std::string_view name) {
  const auto place = moe_place(name);
  return place && name.substr(place->end).starts_with("experts.");
}

}  // namespace flex
