#include "models/data/cifar_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "base/read_file.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr std::int64_t kPlaneBytes = CifarSet::kSide * CifarSet::kSide;
constexpr std::int64_t kPlanes = 3;
constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 30;
constexpr int kNumTrainingFiles = 5;  // of CIFAR-10

std::vector<std::string> read_class_names(const std::filesystem::path& path, std::int64_t num_classes) {
  std::vector<std::string> names;
  if (!std::filesystem::exists(path)) {
    for (std::int64_t label = 0; label < num_classes; ++label) names.push_back(std::to_string(label));
    return names;
  }
  std::istringstream lines(read_file(path, kMaxFileBytes));
  for (std::string line; std::getline(lines, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  require(static_cast<std::int64_t>(names.size()) == num_classes, "{}: has {} names; there are {} classes",
          path.string(), names.size(), num_classes);
  return names;
}

std::vector<std::string> file_names(CifarKind kind, DataSplit split) {
  const bool is_training = split == DataSplit::kTraining;
  if (kind == CifarKind::kCifar100) return {is_training ? "train.bin" : "test.bin"};
  if (!is_training) return {"test_batch.bin"};
  std::vector<std::string> names;
  for (int number = 1; number <= kNumTrainingFiles; ++number)
    names.push_back(fmt::format("data_batch_{}.bin", number));
  return names;
}

}  // namespace

CifarSet::CifarSet(CifarKind kind, const std::filesystem::path& folder, DataSplit split)
    : num_label_bytes_(kind == CifarKind::kCifar10 ? 1 : 2),
      class_names_(kind == CifarKind::kCifar10 ? read_class_names(folder / "batches.meta.txt", 10)
                                               : read_class_names(folder / "fine_label_names.txt", 100)) {
  for (const std::string& name : file_names(kind, split)) read_labelled(folder / name);
}

void CifarSet::read_labelled(const std::filesystem::path& path) {
  files_.push_back({path, read_file(path, kMaxFileBytes), num_images_});
  const auto num_bytes = static_cast<std::int64_t>(files_.back().bytes.size());
  require(num_bytes > 0 && num_bytes % record_bytes() == 0,
          "{}: is of {} bytes; it must be one or more records of {}", path.string(), num_bytes,
          record_bytes());
  const std::int64_t first = num_images_;
  num_images_ += num_bytes / record_bytes();
  for (std::int64_t index = first; index < num_images_; ++index) {
    if (label(index) < static_cast<std::int32_t>(class_names_.size())) continue;
    fail("{}: has the label {}; labels are below {}", where(index), label(index), class_names_.size());
  }
}

std::int64_t CifarSet::record_bytes() const { return num_label_bytes_ + kPlanes * kPlaneBytes; }

const CifarSet::File& CifarSet::file_of(std::int64_t index) const {
  require(index >= 0 && index < num_images_, "CifarSet: there is no image {} among {}", index, num_images_);
  return *std::prev(std::ranges::upper_bound(files_, index, {}, &File::first_image));
}

const std::uint8_t* CifarSet::record(std::int64_t index) const {
  const File& file = file_of(index);
  return reinterpret_cast<const std::uint8_t*>(file.bytes.data()) +
         (index - file.first_image) * record_bytes();
}

std::int32_t CifarSet::label(std::int64_t index) const {
  return record(index)[num_label_bytes_ - 1];  // the fine label is the last
}

std::string CifarSet::where(std::int64_t index) const {
  const File& file = file_of(index);
  return fmt::format("{}: record {}", file.path.string(), index - file.first_image);
}

void CifarSet::read(std::int64_t index, std::int64_t /*least_side*/, RgbImage& image) const {
  const std::uint8_t* planes = record(index) + num_label_bytes_;
  image.height = kSide;
  image.width = kSide;
  image.pixels.resize(kPlanes * kPlaneBytes);
  for (std::int64_t pixel = 0; pixel < kPlaneBytes; ++pixel) {
    for (std::int64_t plane = 0; plane < kPlanes; ++plane)
      image.pixels[static_cast<std::size_t>(kPlanes * pixel + plane)] = planes[plane * kPlaneBytes + pixel];
  }
}

}  // namespace flex
