#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flex {

/// An image in memory: 8-bit red, green and blue, row by row from the top.
struct RgbImage {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> pixels{};  ///< (height, width, 3)
};

/// Which part of a data set.
enum class DataSplit : std::uint8_t { kTraining, kValidation };

/// Labelled images, each found by its number. What it says does not change while it lives; all its functions
/// may be called from several threads at once.
class ImageSet {
 public:
  ImageSet() = default;
  ImageSet(const ImageSet&) = delete;
  ImageSet& operator=(const ImageSet&) = delete;
  virtual ~ImageSet() = default;

  [[nodiscard]] virtual std::int64_t num_images() const = 0;
  /// By label.
  [[nodiscard]] virtual const std::vector<std::string>& class_names() const = 0;
  /// Class of image `index`, in [0, class_names().size()).
  [[nodiscard]] virtual std::int32_t label(std::int64_t index) const = 0;
  /// Where image `index` is, for messages: a path, or a place in a file.
  [[nodiscard]] virtual std::string where(std::int64_t index) const = 0;
  /// Decodes or draws image `index` into `image`, whose memory is used again. If decoding to a smaller image
  /// is cheaper it may be smaller than the file says, but with sides of at least `least_side`; 0: full size.
  /// @throws InputError that names the place of an image that cannot be decoded.
  virtual void read(std::int64_t index, std::int64_t least_side, RgbImage& image) const = 0;
};

}  // namespace flex
