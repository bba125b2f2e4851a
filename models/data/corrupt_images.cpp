#include "models/data/corrupt_images.h"

#include "base/log.h"
#include "base/require.h"

namespace flex {

CorruptImages::CorruptImages(std::int64_t num_images, double max_fraction)
    : num_images_(num_images),
      limit_(static_cast<std::int64_t>(max_fraction * static_cast<double>(num_images))) {}

void CorruptImages::note(std::int64_t index, std::string_view reason) {
  const std::lock_guard lock(mutex_);
  if (indices_.insert(index).second) {
    const auto count = static_cast<std::int64_t>(indices_.size());
    if (count <= kNamed) log_warning("skipped: {}", reason);
    if (count == kNamed) log_warning("{} images were skipped; further ones are only counted", count);
  }
  const auto count = static_cast<std::int64_t>(indices_.size());
  require(count <= limit_, "{} of {} images could not be read; at most {} may be. The last: {}", count,
          num_images_, limit_, reason);
}

bool CorruptImages::contains(std::int64_t index) const {
  const std::lock_guard lock(mutex_);
  return indices_.contains(index);
}

std::int64_t CorruptImages::count() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::int64_t>(indices_.size());
}

}  // namespace flex
