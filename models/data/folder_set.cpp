#include "models/data/folder_set.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/file_error.h"
#include "base/log.h"
#include "base/nearest_name.h"
#include "base/require.h"
#include "models/data/image_file.h"

namespace flex {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kExtensions = {".jpg", ".jpeg", ".png"};

bool has_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return std::ranges::find(kExtensions, extension) != kExtensions.end();
}

void require_known_folders(const fs::path& root, const std::vector<std::string>& class_names) {
  for (const std::string& folder : class_folders(root)) {
    if (std::ranges::find(class_names, folder) != class_names.end()) continue;
    const auto nearest = nearest_name(folder, class_names);
    fail("{}: is no class of the training images{}", (root / folder).string(),
         nearest ? fmt::format("; did you mean {}?", *nearest) : "");
  }
}

}  // namespace

std::vector<std::string> class_folders(const fs::path& root) {
  std::vector<std::string> names;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory() && !name.starts_with('.')) names.push_back(name);
    }
  } catch (const fs::filesystem_error& error) {
    fail_file("list", root, error.code().value());
  }
  require(!names.empty(),
          "{}: has no folders; images are expected in one folder for each class, "
          "CLASS/FILE.jpg",
          root.string());
  std::ranges::sort(names);
  return names;
}

ImageFolder::ImageFolder(const fs::path& root) : ImageFolder(root, class_folders(root)) {}

ImageFolder::ImageFolder(const fs::path& root, std::vector<std::string> class_names)
    : root_(root), class_names_(std::move(class_names)) {
  require_known_folders(root, class_names_);
  for (std::size_t label = 0; label < class_names_.size(); ++label)
    list_class(static_cast<std::int32_t>(label));
  require(!files_.empty(), "{}: its {} folders hold no .jpg, .jpeg or .png files", root.string(),
          class_names_.size());
}

void ImageFolder::list_class(std::int32_t label) {
  const fs::path folder = root_ / class_names_[static_cast<std::size_t>(label)];
  if (!fs::exists(folder)) {
    log_warning("{}: there is no such folder; the class has no images here", folder.string());
    return;
  }
  const std::size_t first = files_.size();
  try {
    for (const fs::directory_entry& entry :
         fs::recursive_directory_iterator(folder, fs::directory_options::follow_directory_symlink)) {
      if (has_image_name(entry.path()) && entry.is_regular_file())
        files_.push_back({entry.path().lexically_relative(folder).string(), label});
    }
  } catch (const fs::filesystem_error& error) {
    fail_file("list", folder, error.code().value());
  }
  std::sort(files_.begin() + static_cast<std::ptrdiff_t>(first), files_.end(),
            [](const File& a, const File& b) { return a.name < b.name; });
  if (files_.size() == first) log_warning("{}: the class has no .jpg, .jpeg or .png files", folder.string());
}

std::string ImageFolder::where(std::int64_t index) const {
  const File& image = file(index);
  return (root_ / class_names_[static_cast<std::size_t>(image.label)] / image.name).string();
}

void ImageFolder::read(std::int64_t index, std::int64_t least_side, RgbImage& image) const {
  read_image_file(where(index), least_side, image);
}

}  // namespace flex
