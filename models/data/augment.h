#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "models/data/crop.h"
#include "models/data/image_planes.h"
#include "models/data/rand_augment.h"

namespace flex {

class JsonObject;

/// How images become samples. A plain value.
struct AugmentConfig {
  bool random_crop = false;  ///< or else training crops as evaluation does
  CropRange crop{};
  double flip = 0;           ///< probability of a mirrored image
  double colour_jitter = 0;  ///< strength, see jitter_colours()
  RandAugment rand_augment{};
  double erase = 0;  ///< probability, see erase_randomly()
  MixSettings mix{};
  Interpolation interpolation = Interpolation::kBicubic;
  Normalization normalization{};
  /// Side of evaluation's central crop, as a share of the image's shorter side; 1: all of it.
  double central_share = 224.0 / 256.0;

  /// Nothing random. Crops and interpolation are those of evaluation.
  [[nodiscard]] static AugmentConfig none();
  /// Crops of a quarter of the area or more, and flips.
  [[nodiscard]] static AugmentConfig light();
  /// The published recipe of Swin and Swin-MoE on ImageNet, mixing included. Its colour jitter of 0.4 is not
  /// in it: timm does not use one beside RandAugment. Label smoothing is the loss's.
  /// @source Liu et al., "Swin Transformer", A2.1, and the values of its released configuration.
  [[nodiscard]] static AugmentConfig swin();

  friend bool operator==(const AugmentConfig&, const AugmentConfig&) = default;
};

/// Reads what AugmentConfig has, under its names (`crop_area` and `crop_aspect` are [least, most]; `mixup`,
/// `cutmix`, `mix_probability` and `cutmix_share`; `rand_augment` an object of `num_ops`, `magnitude`,
/// `magnitude_std` and `probability`; `mean` and `deviation`), beginning from `preset`: none, light or swin.
/// Calls finish(). @throws InputError.
[[nodiscard]] AugmentConfig read_augment_config(JsonObject json);
/// All keys, which read_augment_config() reads back to an equal value.
[[nodiscard]] nlohmann::ordered_json to_json(const AugmentConfig& config);
/// @throws InputError for another name, with the nearest.
[[nodiscard]] AugmentConfig augment_preset(std::string_view name);

/// What sample an image becomes, beside its pixels.
struct SampleKey {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t image = 0;
};

/// The random numbers of a sample: a function of the key alone.
[[nodiscard]] PhiloxStream sample_stream(const SampleKey& key);

/// Turns images into normalized planes of S x S. One thread at a time; its memory is used again.
class SampleMaker {
 public:
  SampleMaker(const AugmentConfig& config, std::int64_t size) : config_(config), size_(size) {}

  /// For training: what is random comes from sample_stream(key). `read(least_side, image)` fills the image.
  template <class T, class Read>
  void make_training(const SampleKey& key, const Read& read, std::span<T> planes) {
    PhiloxStream random = sample_stream(key);
    const CropDraw crop = draw_crop(config_.crop, random);
    read(config_.random_crop ? least_side(crop, size_) : evaluation_side(), image_);
    cut(config_.random_crop ? place_crop(crop, config_.crop, image_.height, image_.width) : evaluation_box());
    change_pixels(random);
    write_planes(sample_, config_.normalization, planes);
    erase_randomly(config_.erase, random, size_, planes);
  }

  /// For evaluation: nothing is random.
  template <class T, class Read>
  void make_evaluation(const Read& read, std::span<T> planes) {
    read(evaluation_side(), image_);
    cut(evaluation_box());
    write_planes(sample_, config_.normalization, planes);
  }

 private:
  [[nodiscard]] std::int64_t evaluation_side() const { return resized_side(size_, config_.central_share); }
  [[nodiscard]] PixelBox evaluation_box() const {
    return central_box(image_.height, image_.width, config_.central_share);
  }
  void cut(const PixelBox& box);
  void change_pixels(PhiloxStream& random);

  AugmentConfig config_;
  std::int64_t size_;
  RgbImage image_, sample_, scratch_;
};

/// Mirrors the image left to right.
void flip_horizontally(RgbImage& image);

}  // namespace flex
