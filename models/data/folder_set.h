#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/data/image_set.h"

namespace flex {

/// Names of the folders of `root` that do not begin with a point, sorted by their bytes: the classes of an
/// ImageFolder. @throws FileError if `root` is no folder that can be read, InputError if it has no folders.
[[nodiscard]] std::vector<std::string> class_folders(const std::filesystem::path& root);

/// JPEG and PNG files in folders by class: ROOT/CLASS/**/FILE.jpg, .jpeg or .png, in capitals too. Links are
/// followed. The names are listed once, sorted; a file is opened when it is read, and only then found
/// corrupt.
class ImageFolder final : public ImageSet {
 public:
  /// The classes are those of class_folders(root). @throws InputError if there are none, or no files; a class
  /// without files is a warning. @throws FileError.
  explicit ImageFolder(const std::filesystem::path& root);
  /// Labels as another set has them, so that validation agrees with training. A class without a folder is a
  /// warning. @throws InputError also for a folder of another name.
  ImageFolder(const std::filesystem::path& root, std::vector<std::string> class_names);

  [[nodiscard]] std::int64_t num_images() const override { return static_cast<std::int64_t>(files_.size()); }
  [[nodiscard]] const std::vector<std::string>& class_names() const override { return class_names_; }
  [[nodiscard]] std::int32_t label(std::int64_t index) const override { return file(index).label; }
  [[nodiscard]] std::string where(std::int64_t index) const override;
  void read(std::int64_t index, std::int64_t least_side, RgbImage& image) const override;

 private:
  struct File {
    std::string name;  // below the class's folder
    std::int32_t label;
  };
  [[nodiscard]] const File& file(std::int64_t index) const {
    return files_.at(static_cast<std::size_t>(index));
  }
  void list_class(std::int32_t label);

  std::filesystem::path root_;
  std::vector<std::string> class_names_;
  std::vector<File> files_;
};

}  // namespace flex
