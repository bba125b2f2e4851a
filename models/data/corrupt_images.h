#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>
#include <unordered_set>

namespace flex {

/// The images that could not be read so far. All functions may be called from several threads at once.
class CorruptImages {
 public:
  static constexpr std::int64_t kNamed = 10;  ///< warnings; further images are only counted

  /// @param num_images of the set; `max_fraction` of them, rounded down, may be corrupt.
  CorruptImages(std::int64_t num_images, double max_fraction);

  /// Notes an image; the first few are named in a warning, each once.
  /// @throws InputError with `reason` if there are now more than may be.
  void note(std::int64_t index, std::string_view reason);
  [[nodiscard]] bool contains(std::int64_t index) const;
  [[nodiscard]] std::int64_t count() const;

 private:
  std::int64_t num_images_;
  std::int64_t limit_;
  mutable std::mutex mutex_;
  std::unordered_set<std::int64_t> indices_;
};

}  // namespace flex
