#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/data/image_set.h"
#include "models/data/procedural_scene.h"

namespace flex {

/// Which images a ProceduralSet has.
struct ProceduralSetOptions {
  std::int64_t num_images = 10'000;
  std::int64_t num_classes = 100;
  std::int64_t image_size = 64;  ///< rows and columns
  std::uint64_t seed = 0;
  std::uint64_t split =
      0;  ///< sets of one seed and different splits have the same classes and no image in common
  double nuisance = 1;  ///< 0 to 1: how much images of a class differ, and how much hides the subject
};

/// Images that are drawn when they are read: a shape with a texture, and much that does not matter.
///
/// A class is a shape, a texture and, from kClassesWithPalettes classes on, a warm or cool palette; its name
/// says them: `star5 striped`. Classes of one shape follow one another, and so do shapes that are alike.
/// Image i shows what (seed, split, i) say and no more, so that ranks and threads share nothing; every run of
/// num_classes images has each class once.
class ProceduralSet : public ImageSet {
 public:
  static constexpr std::int64_t kClassesWithPalettes = 128;
  static constexpr std::int64_t kMostClasses = 10'000;
  static constexpr std::int64_t kLeastSize = 16;

  /// @throws InputError that names the first option that cannot be.
  explicit ProceduralSet(const ProceduralSetOptions& options);

  [[nodiscard]] std::int64_t num_images() const override { return options_.num_images; }
  [[nodiscard]] const std::vector<std::string>& class_names() const override { return names_; }
  [[nodiscard]] std::int32_t label(std::int64_t index) const override;
  [[nodiscard]] std::string where(std::int64_t index) const override;
  /// Always draws the full size. @throws InputError for an image that the set has not.
  void read(std::int64_t index, std::int64_t least_side, RgbImage& image) const override;

  [[nodiscard]] const ProceduralSetOptions& options() const { return options_; }
  /// Number of the class's shape: classes of one shape are the hardest to tell apart.
  [[nodiscard]] std::int64_t shape_of(std::int32_t label) const;

 private:
  void check(std::int64_t index) const;

  ProceduralSetOptions options_;
  std::uint64_t key_;  // of (seed, split)
  std::vector<ShapeOutline> shapes_;
  std::vector<SceneSubject> subjects_;  // by label
  std::vector<std::string> names_;      // by label
};

}  // namespace flex
