#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cli/table.h"
#include "models/data/batch_loader.h"
#include "models/data/folder_set.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/data/image_files.h"

/// How fast a folder of JPEG files of 256 x 256 pixels becomes batches. The files are made here: drawn with a
/// spectrum like a photograph's, some 30 kB each. Prints, for crops of 192 and 224 pixels, with nothing
/// random and with the whole recipe of Swin (random resized crop, flip, RandAugment, random erasing, mixup
/// and cutmix), and for 1, 2 and as many workers as there are cores: images of a second of the clock, the
/// least and the most of kRepeats; processor time of an image, of all threads; images that a second of one
/// core makes; and the share of reading and decoding in the processor time. The files are in the page cache.
namespace flex::bench {
namespace {

constexpr std::int64_t kFiles = 256;
constexpr std::int64_t kSide = 256;
constexpr int kQuality = 94;
constexpr std::int64_t kBatch = 64;
constexpr int kWarmUpBatches = 2;
constexpr int kBatches = 12;
constexpr int kRepeats = 3;
constexpr double kToKilobytes = 1e-3;

double seconds_of(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Another set, whose reading is timed.
class TimedSet final : public ImageSet {
 public:
  explicit TimedSet(const std::filesystem::path& root) : images_(root) {}
  [[nodiscard]] std::int64_t num_images() const override { return images_.num_images(); }
  [[nodiscard]] const std::vector<std::string>& class_names() const override { return images_.class_names(); }
  [[nodiscard]] std::int32_t label(std::int64_t index) const override { return images_.label(index); }
  [[nodiscard]] std::string where(std::int64_t index) const override { return images_.where(index); }
  void read(std::int64_t index, std::int64_t least_side, RgbImage& image) const override {
    const double start_s = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    images_.read(index, least_side, image);
    const double taken_s = seconds_of(CLOCK_THREAD_CPUTIME_ID) - start_s;
    read_ns_ += static_cast<std::int64_t>(taken_s * 1e9);
    ++num_reads_;
  }
  [[nodiscard]] double read_s_each() const {
    return 1e-9 * static_cast<double>(read_ns_) / static_cast<double>(num_reads_);
  }

 private:
  ImageFolder images_;
  mutable std::atomic<std::int64_t> read_ns_ = 0;
  mutable std::atomic<std::int64_t> num_reads_ = 0;
};

struct Speed {
  double least_per_s = 0;
  double most_per_s = 0;
  double cpu_ms = 0;  ///< of an image
  double decoding_share = 0;
};

// From the batch after warm-up on; what workers do ahead at the beginning and at the end is about the same.
Speed measure(const std::filesystem::path& root, const AugmentConfig& augment, std::int64_t size,
              int num_workers) {
  const auto images = std::make_shared<TimedSet>(root);
  BatchLoader loader(images, {.local_batch = kBatch,
                              .image_size = size,
                              .num_workers = num_workers,
                              .prefetch = 2,
                              .augment = augment});
  for (int i = 0; i < kWarmUpBatches; ++i) static_cast<void>(loader.next_blocking());
  std::vector<double> rates;
  double cpu_s = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const double start_s = seconds_of(CLOCK_MONOTONIC);
    const double start_cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < kBatches; ++i) static_cast<void>(loader.next_blocking());
    cpu_s += seconds_of(CLOCK_PROCESS_CPUTIME_ID) - start_cpu_s;
    rates.push_back(static_cast<double>(kBatches * kBatch) / (seconds_of(CLOCK_MONOTONIC) - start_s));
  }
  const double cpu_s_each = cpu_s / static_cast<double>(kRepeats * kBatches * kBatch);
  const auto [least, most] = std::ranges::minmax(rates);
  return {.least_per_s = least,
          .most_per_s = most,
          .cpu_ms = 1e3 * cpu_s_each,
          .decoding_share = images->read_s_each() / cpu_s_each};
}

double write_files(const std::filesystem::path& root) {
  std::size_t num_bytes = 0;
  for (std::int64_t i = 0; i < kFiles; ++i) {
    const RgbImage image = testing::textured_image(kSide, kSide, static_cast<std::uint64_t>(i));
    const std::string file = testing::encode_jpeg(image, kQuality);
    testing::write_bytes(root / fmt::format("{}/{}.jpg", i % 4, i), file);
    num_bytes += file.size();
  }
  return kToKilobytes * static_cast<double>(num_bytes) / static_cast<double>(kFiles);
}

void run() {
  const TemporaryDirectory root;
  fmt::print("{} JPEG files of {} x {}, {:.1f} kB each, batches of {}\n", kFiles, kSide, kSide,
             write_files(root.path()), kBatch);
  std::vector<int> worker_counts = {1, 2};
  const int num_cores = static_cast<int>(std::thread::hardware_concurrency());
  if (num_cores > 2) worker_counts.push_back(num_cores);
  cli::Table table({{"augment", cli::Align::kLeft},
                    {"crop"},
                    {"workers"},
                    {"images/s least"},
                    {"most"},
                    {"CPU ms/image"},
                    {"images/s/core"},
                    {"decoding"}});
  for (const std::string name : {"none", "swin"}) {
    for (const std::int64_t size : {192, 224}) {
      for (const int num_workers : worker_counts) {
        const Speed speed = measure(root.path(), augment_preset(name), size, num_workers);
        table.add({name, std::to_string(size), std::to_string(num_workers),
                   fmt::format("{:.0f}", speed.least_per_s), fmt::format("{:.0f}", speed.most_per_s),
                   fmt::format("{:.2f}", speed.cpu_ms), fmt::format("{:.0f}", 1e3 / speed.cpu_ms),
                   fmt::format("{:.0f}%", 100 * speed.decoding_share)});
      }
    }
  }
  fmt::print("{}", table.text());
}

}  // namespace
}  // namespace flex::bench

// NOLINTNEXTLINE(bugprone-exception-escape): what cannot be measured ends the bench
int main() { flex::bench::run(); }
