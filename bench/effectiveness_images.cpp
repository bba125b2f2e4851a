#include "bench/effectiveness_images.h"

#include <algorithm>
#include <numeric>
#include <thread>
#include <utility>

#include "base/philox.h"
#include "base/require.h"

namespace flex::bench {
namespace {

constexpr std::int64_t kChannels = ModelConfig::kImageChannels;

float staged(std::uint8_t value) {
  constexpr float kMiddle = 127.5F;
  constexpr float kInverseDeviation = 1 / 64.0F;
  return (static_cast<float>(value) - kMiddle) * kInverseDeviation;
}

// A row moved by `move` to the left; what comes in is the edge.
void stage_row(const std::uint8_t* row, std::int64_t size, std::int64_t move, float* out) {
  const std::int64_t begin = std::max<std::int64_t>(0, -move);
  const std::int64_t end = std::min(size, size - move);
  std::fill(out, out + begin, staged(row[0]));
  for (std::int64_t x = begin; x < end; ++x) out[x] = staged(row[x + move]);
  std::fill(out + end, out + size, staged(row[size - 1]));
}

}  // namespace

RenderedImages::RenderedImages(const ImageSet& set, std::int64_t size, int num_threads)
    : size_(size),
      pixels_(static_cast<std::size_t>(set.num_images() * size * size * kChannels)),
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
    const std::int64_t area = size_ * size_;
    std::uint8_t* planes = pixels_.data() + i * area * kChannels;
    for (std::int64_t channel = 0; channel < kChannels; ++channel) {
      for (std::int64_t at = 0; at < area; ++at)
        *planes++ = image.pixels[static_cast<std::size_t>(at * kChannels + channel)];
    }
    labels_[static_cast<std::size_t>(i)] = set.label(i);
  }
}

StagedBatch::StagedBatch(std::int64_t batch, std::int64_t size, Device device)
    : images(Tensor::staging(DType::kF32, {batch, kChannels, size, size}, device)),
      labels(Tensor::staging(DType::kI32, {batch}, device)) {}

void stage_image(const RenderedImages& from, std::int64_t index, std::int64_t place, int move_x, int move_y,
                 StagedBatch& batch) {
  const std::int64_t size = from.size();
  const std::uint8_t* pixels = from.pixels(index);
  float* out = batch.images.as<float>() + place * kChannels * size * size;
  for (std::int64_t channel = 0; channel < kChannels; ++channel) {
    for (std::int64_t y = 0; y < size; ++y, out += size) {
      const std::int64_t row = channel * size + std::clamp<std::int64_t>(y + move_y, 0, size - 1);
      stage_row(pixels + row * size, size, move_x, out);
    }
  }
  batch.labels.as<std::int32_t>()[place] = from.label(index);
}

TrainingBatches::TrainingBatches(const RenderedImages& images, std::int64_t batch, std::uint64_t seed,
                                 Device device)
    : images_(images), seed_(seed), order_(static_cast<std::size_t>(images.count())) {
  constexpr int kNumBatches = 2;
  for (int i = 0; i < kNumBatches; ++i) batches_.emplace_back(batch, images.size(), device);
  std::iota(order_.begin(), order_.end(), 0);
  made_ = std::async(std::launch::async, [this] { make(batches_[0]); });
}

ImageBatch TrainingBatches::next() {
  made_.get();
  const StagedBatch& ready = batches_[turn_];
  turn_ = (turn_ + 1) % batches_.size();
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
