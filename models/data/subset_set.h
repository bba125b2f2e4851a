#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/data/image_set.h"

namespace flex {

/// Some images of another set, with its classes.
class SubsetSet final : public ImageSet {
 public:
  /// Image i is image `indices[i]` of `images`. @throws InputError for an image that it has not.
  SubsetSet(std::shared_ptr<const ImageSet> images, std::vector<std::int64_t> indices);

  [[nodiscard]] std::int64_t num_images() const override {
    return static_cast<std::int64_t>(indices_.size());
  }
  [[nodiscard]] const std::vector<std::string>& class_names() const override {
    return images_->class_names();
  }
  [[nodiscard]] std::int32_t label(std::int64_t index) const override { return images_->label(at(index)); }
  [[nodiscard]] std::string where(std::int64_t index) const override { return images_->where(at(index)); }
  void read(std::int64_t index, std::int64_t least_side, RgbImage& image) const override {
    images_->read(at(index), least_side, image);
  }

 private:
  [[nodiscard]] std::int64_t at(std::int64_t index) const {
    return indices_.at(static_cast<std::size_t>(index));
  }

  std::shared_ptr<const ImageSet> images_;
  std::vector<std::int64_t> indices_;
};

}  // namespace flex
