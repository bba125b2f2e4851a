#include "models/data/subset_set.h"

#include <utility>

#include "base/require.h"

namespace flex {

SubsetSet::SubsetSet(std::shared_ptr<const ImageSet> images, std::vector<std::int64_t> indices)
    : images_(std::move(images)), indices_(std::move(indices)) {
  for (const std::int64_t index : indices_) {
    require(index >= 0 && index < images_->num_images(), "image {} of a set of {}", index,
            images_->num_images());
  }
}

}  // namespace flex
