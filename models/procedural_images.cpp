#include "models/procedural_images.h"

#include <cmath>
#include <numbers>

#include "base/philox.h"
#include "kernels/host_element.h"

namespace flex {

ProceduralImages::ProceduralImages(const ModelConfig& config, DType dtype, std::int64_t batch,
                                   std::uint64_t seed, Device device)
    : seed_(seed),
      num_classes_(config.num_classes),
      images_(Tensor::staging(gate_dtype(dtype),
                              {batch, ModelConfig::kImageChannels, config.image_size, config.image_size},
                              device)),
      labels_(Tensor::staging(DType::kI32, {batch}, device)) {}

ImageBatch ProceduralImages::make(std::int64_t first) {
  for (std::int64_t i = 0; i < labels_.num_elements(); ++i) draw(first + i, i);
  return {images_, labels_};
}

void ProceduralImages::draw(std::int64_t sample, std::int64_t place) {
  constexpr double kNoise = 0.5;
  constexpr double kLeastWaves = 2;  // over the image
  constexpr double kMostWaves = 8;
  PhiloxStream random(seed_, static_cast<std::uint64_t>(sample));
  const std::int64_t label = random.below(num_classes_);
  labels_.as<std::int32_t>()[place] = static_cast<std::int32_t>(label);
  const double share = static_cast<double>(label) / static_cast<double>(num_classes_);
  const double angle = std::numbers::pi * share;
  const double waves = kLeastWaves + (kMostWaves - kLeastWaves) * share;
  const double phase = 2 * std::numbers::pi * random.uniform();
  const std::int64_t size = images_.shape()[2];
  const double step = 2 * std::numbers::pi * waves / static_cast<double>(size);
  std::int64_t index = place * images_.shape().inner();
  for (std::int64_t channel = 0; channel < ModelConfig::kImageChannels; ++channel) {
    for (std::int64_t row = 0; row < size; ++row) {
      for (std::int64_t column = 0; column < size; ++column) {
        const double along =
            std::cos(angle) * static_cast<double>(row) + std::sin(angle) * static_cast<double>(column);
        const double wave = std::sin(step * along + phase + static_cast<double>(channel));
        set_host_element(images_, index++, wave + kNoise * random.normal());
      }
    }
  }
}

}  // namespace flex
