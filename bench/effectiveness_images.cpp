#include "bench/effectiveness_images.h"

#include <algorithm>
#include <numeric>
#include <thread>
#include <utility>

#include "base/philox.h"
#include "base/require.h"

namespace flex::bench {

RenderedImages::RenderedImages(const ImageSet& set, std::int64_t size, int num_threads)
    : size_(size),
      pixels_(static_cast<std::size_t>(set.num_images() * size * size * 3)),
      labels_(static_cast<std::size_t>(set.num_images())) {
  std::vector<std::future<void>> parts;
  for (int i = 0; i < num_threads; ++i) {
    const std::int64_t begin = count() * i / num_threads;
    const std::int64_t end = count() * (i + 1) / num_threads;
    parts.push_back(std::async(std::launch::async, [this, &set, begin, end] { read(set, begin, end); }));
  }
  for (std::future<void>& part : parts) part.get();
}

void RenderedImages::read(const ImageSet& set, std::int64_t begin, std::int64_t end) {
  RgbImage image;
  for (std::int64_t i = begin; i < end; ++i) {
    set.read(i, 0, image);
    require(image.height == size_ && image.width == size_, "{} is {} x {}, expected {} x {}", set.where(i),
            image.height, image.width, size_, size_);
    std::ranges::copy(image.pixels, pixels_.begin() + i * size_ * size_ * 3);
    labels_[static_cast<std::size_t>(i)] = set.label(i);
  }
}

StagedBatch::StagedBatch(std::int64_t batch, std::int64_t size, Device device)
    : images(Tensor::staging(DType::kF32, {batch, ModelConfig::kImageChannels, size, size}, device)),
      labels(Tensor::staging(DType::kI32, {batch}, device)) {}

void stage_image(const RenderedImages& from, std::int64_t index, std::int64_t place, int move_x, int move_y,
                 StagedBatch& batch) {
  constexpr float kMiddle = 127.5F;
  constexpr float kInverseDeviation = 1 / 64.0F;
  const std::int64_t size = from.size();
  const std::uint8_t* pixels = from.pixels(index);
  float* out = batch.images.as<float>() + place * ModelConfig::kImageChannels * size * size;
  for (std::int64_t channel = 0; channel < ModelConfig::kImageChannels; ++channel) {
    for (std::int64_t y = 0; y < size; ++y) {
      const std::uint8_t* row =
          pixels + std::clamp<std::int64_t>(y + move_y, 0, size - 1) * size * 3 + channel;
      for (std::int64_t x = 0; x < size; ++x) {
        const std::int64_t column = std::clamp<std::int64_t>(x + move_x, 0, size - 1);
        *out++ = (static_cast<float>(row[column * 3]) - kMiddle) * kInverseDeviation;
      }
    }
  }
  batch.labels.as<std::int32_t>()[place] = from.label(index);
}

TrainingBatches::TrainingBatches(const RenderedImages& images, std::int64_t batch, std::uint64_t seed,
                                 Device device)
    : images_(images),
      seed_(seed),
      order_(static_cast<std::size_t>(images.count())),
      batches_{{batch, images.size(), device}, {batch, images.size(), device}} {
  std::iota(order_.begin(), order_.end(), 0);
  made_ = std::async(std::launch::async, [this] { make(batches_[0]); });
}

ImageBatch TrainingBatches::next() {
  made_.get();
  const StagedBatch& ready = batches_[turn_];
  turn_ = (turn_ + 1) % std::size(batches_);
  made_ = std::async(std::launch::async, [this, &batch = batches_[turn_]] { make(batch); });
  return {ready.images, ready.labels};
}

void TrainingBatches::make(StagedBatch& batch) {
  constexpr std::uint64_t kMoveSalt = 0x6D6F7665;
  PhiloxStream random(splitmix64(seed_ ^ kMoveSalt), static_cast<std::uint64_t>(step_++));
  for (std::int64_t place = 0; place < batch.labels.num_elements(); ++place) {
    const auto move_x = static_cast<int>(random.below(2 * kMostMove + 1)) - kMostMove;
    const auto move_y = static_cast<int>(random.below(2 * kMostMove + 1)) - kMostMove;
    stage_image(images_, next_index(), place, move_x, move_y, batch);
  }
}

std::int64_t TrainingBatches::next_index() {
  constexpr std::uint64_t kOrderSalt = 0x6F72646572;
  const std::int64_t at = drawn_ % images_.count();
  if (at == 0) {
    PhiloxStream random(splitmix64(seed_ ^ kOrderSalt), static_cast<std::uint64_t>(drawn_ / images_.count()));
    for (std::size_t i = order_.size() - 1; i > 0; --i)
      std::swap(order_[i], order_[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i) + 1))]);
  }
  ++drawn_;
  return order_[static_cast<std::size_t>(at)];
}

}  // namespace flex::bench
