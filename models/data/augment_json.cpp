#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/json_object.h"
#include "base/nearest_name.h"
#include "models/data/augment.h"

namespace flex {
namespace {

const JsonRange kShare = JsonRange::between(0, 1);
const JsonRange kNotNegative = JsonRange::at_least(0);

template <class T>
void read_into(T& field, JsonObject& json, std::string_view key, const JsonRange& range = {}) {
  if (auto value = json.optional<T>(key, range)) field = std::move(*value);
}

void read_bounds(double& least, double& most, JsonObject& json, std::string_view key,
                 const JsonRange& range) {
  const auto bounds = json.optional<std::vector<double>>(key, range);
  if (!bounds) return;
  if (bounds->size() != 2 || bounds->front() > bounds->back()) json.reject(key, "must be [least, most]");
  least = bounds->front();
  most = bounds->back();
}

void read_channels(std::array<double, kImagePlanes>& field, JsonObject& json, std::string_view key,
                   const JsonRange& range) {
  const auto values = json.optional<std::vector<double>>(key, range);
  if (!values) return;
  if (values->size() != field.size())
    json.reject(key, "has {} numbers; it must have one each of red, green and blue", values->size());
  std::ranges::copy(*values, field.begin());
}

void read_rand_augment(RandAugment& policy, JsonObject json) {
  read_into(policy.num_ops, json, "num_ops", kNotNegative);
  read_into(policy.magnitude, json, "magnitude", JsonRange::between(0, RandAugment::kMostMagnitude));
  read_into(policy.magnitude_std, json, "magnitude_std", kNotNegative);
  read_into(policy.probability, json, "probability", kShare);
  json.finish();
}

}  // namespace

AugmentConfig augment_preset(std::string_view name) {
  static const std::array<std::string, 3> kNames = {"none", "light", "swin"};
  if (name == kNames[0]) return AugmentConfig::none();
  if (name == kNames[1]) return AugmentConfig::light();
  if (name == kNames[2]) return AugmentConfig::swin();
  const auto nearest = nearest_name(name, kNames);
  fail("'{}' is no augmentation; there are none, light and swin{}", name,
       nearest ? fmt::format(" (did you mean {}?)", *nearest) : "");
}

AugmentConfig read_augment_config(JsonObject json) {
  AugmentConfig config =
      augment_preset(json.optional_one_of("preset", {"none", "light", "swin"}).value_or("none"));
  read_into(config.random_crop, json, "random_crop");
  read_bounds(config.crop.min_area, config.crop.max_area, json, "crop_area",
              {.min = 0, .max = 1, .above_min = true});
  read_bounds(config.crop.min_aspect, config.crop.max_aspect, json, "crop_aspect", JsonRange::above(0));
  read_into(config.flip, json, "flip", kShare);
  read_into(config.colour_jitter, json, "colour_jitter", kNotNegative);
  if (auto policy = json.optional<JsonObject>("rand_augment"))
    read_rand_augment(config.rand_augment, std::move(*policy));
  read_into(config.erase, json, "erase", kShare);
  read_into(config.mix.mixup, json, "mixup", kNotNegative);
  read_into(config.mix.cutmix, json, "cutmix", kNotNegative);
  read_into(config.mix.probability, json, "mix_probability", kShare);
  read_into(config.mix.cutmix_share, json, "cutmix_share", kShare);
  if (const auto name = json.optional_one_of("interpolation", {"bilinear", "bicubic"}))
    config.interpolation = *name == "bilinear" ? Interpolation::kBilinear : Interpolation::kBicubic;
  read_channels(config.normalization.mean, json, "mean", kShare);
  read_channels(config.normalization.deviation, json, "deviation", JsonRange::above(0));
  read_into(config.central_share, json, "central_share", {.min = 0, .max = 1, .above_min = true});
  json.finish();
  return config;
}

nlohmann::ordered_json to_json(const AugmentConfig& config) {
  const RandAugment& policy = config.rand_augment;
  return {{"random_crop", config.random_crop},
          {"crop_area", {config.crop.min_area, config.crop.max_area}},
          {"crop_aspect", {config.crop.min_aspect, config.crop.max_aspect}},
          {"flip", config.flip},
          {"colour_jitter", config.colour_jitter},
          {"rand_augment",
           {{"num_ops", policy.num_ops},
            {"magnitude", policy.magnitude},
            {"magnitude_std", policy.magnitude_std},
            {"probability", policy.probability}}},
          {"erase", config.erase},
          {"mixup", config.mix.mixup},
          {"cutmix", config.mix.cutmix},
          {"mix_probability", config.mix.probability},
          {"cutmix_share", config.mix.cutmix_share},
          {"interpolation", config.interpolation == Interpolation::kBilinear ? "bilinear" : "bicubic"},
          {"mean", config.normalization.mean},
          {"deviation", config.normalization.deviation},
          {"central_share", config.central_share}};
}

}  // namespace flex
