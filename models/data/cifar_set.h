#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/data/image_set.h"

namespace flex {

enum class CifarKind : std::uint8_t { kCifar10, kCifar100 };

/// CIFAR-10 or CIFAR-100 in the binary version, held in memory: 32 x 32 pixels, of CIFAR-100 the fine labels.
/// Classes have the names of batches.meta.txt or fine_label_names.txt, or else their numbers.
/// @source Krizhevsky, "Learning Multiple Layers of Features from Tiny Images"; the layout of a record (one
///         label, of CIFAR-100 two, coarse before fine; then the red, green and blue planes) as the data
///         set's page gives it.
class CifarSet final : public ImageSet {
 public:
  static constexpr std::int64_t kSide = 32;

  /// @param folder holds data_batch_1.bin to data_batch_5.bin and test_batch.bin, or train.bin and test.bin.
  /// @throws FileError for a file that is missing; InputError for one that is no whole number of records, or
  ///         a label that is no class, with its place.
  CifarSet(CifarKind kind, const std::filesystem::path& folder, DataSplit split);

  [[nodiscard]] std::int64_t num_images() const override { return num_images_; }
  [[nodiscard]] const std::vector<std::string>& class_names() const override { return class_names_; }
  [[nodiscard]] std::int32_t label(std::int64_t index) const override;
  [[nodiscard]] std::string where(std::int64_t index) const override;
  void read(std::int64_t index, std::int64_t least_side, RgbImage& image) const override;

 private:
  struct File {
    std::filesystem::path path;
    std::string bytes;
    std::int64_t first_image;
  };
  /// The file with image `index`. @throws InputError if there is no such image.
  [[nodiscard]] const File& file_of(std::int64_t index) const;
  [[nodiscard]] const std::uint8_t* record(std::int64_t index) const;
  [[nodiscard]] std::int64_t record_bytes() const;
  void read_labelled(const std::filesystem::path& path);

  std::int64_t num_label_bytes_;
  std::vector<std::string> class_names_;
  std::vector<File> files_;
  std::int64_t num_images_ = 0;
};

}  // namespace flex
