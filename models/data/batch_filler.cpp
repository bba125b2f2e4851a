#include "models/data/batch_filler.h"

#include <algorithm>

#include "base/require.h"

namespace flex {
namespace {

// Before the members: an order needs images.
std::shared_ptr<const ImageSet> checked(std::shared_ptr<const ImageSet> images) {
  require(images != nullptr && images->num_images() > 0, "a loader needs a set of at least one image");
  return images;
}

void validate(const LoaderOptions& options) {
  require(options.local_batch >= 1, "a loader's local batch is {}; it must be at least 1",
          options.local_batch);
  require(options.world >= 1 && options.rank >= 0 && options.rank < options.world,
          "a loader's rank is {} of {}; it must be below", options.rank, options.world);
  require(options.image_size >= 1, "a loader's image size is {}; it must be at least 1", options.image_size);
  require(options.dtype == DType::kF32 || options.dtype == DType::kF64,
          "a loader makes images of {}; they must be fp32 or fp64", name(options.dtype));
  require(options.num_workers >= 1, "a loader has {} workers; it must have at least 1", options.num_workers);
  require(options.prefetch >= 1, "a loader makes {} batches ahead; it must be at least 1", options.prefetch);
  require(options.max_corrupt_fraction >= 0 && options.max_corrupt_fraction <= 1,
          "max_corrupt_fraction is {}; it must be from 0 to 1", options.max_corrupt_fraction);
  require(!options.mixes() || options.local_batch % 2 == 0,
          "mixup and cutmix mix pairs of neighbours; {} images for each rank do not divide into pairs",
          options.local_batch);
}

// Of a pair, apart from those of its samples.
PhiloxStream pair_stream(std::uint64_t seed, std::int64_t pair) {
  constexpr std::uint64_t kPairs = 0x7061697273000000U;
  return PhiloxStream(splitmix64(splitmix64(seed) ^ kPairs), static_cast<std::uint64_t>(pair));
}

}  // namespace

BatchFiller::BatchFiller(std::shared_ptr<const ImageSet> images, const LoaderOptions& options)
    : images_(checked(std::move(images))),
      options_(options),
      num_classes_(static_cast<std::int64_t>(images_->class_names().size())),
      order_(images_->num_images(), options.seed),
      corrupt_(images_->num_images(), options.max_corrupt_fraction) {
  validate(options);
  require(options.num_classes == 0 || options.num_classes >= num_classes_,
          "the images are of {} classes, and the model has {}", num_classes_, options.num_classes);
  num_classes_ = std::max(num_classes_, options.num_classes);
}

std::int64_t BatchFiller::first_position(std::int64_t step) const {
  return (step * options_.world + options_.rank) * options_.local_batch;
}

std::int64_t BatchFiller::num_valid(std::int64_t step) const {
  if (options_.mode == LoadMode::kTraining) return options_.local_batch;
  return std::clamp<std::int64_t>(num_images() - first_position(step), 0, options_.local_batch);
}

std::int64_t BatchFiller::num_batches() const {
  const std::int64_t global_batch = options_.world * options_.local_batch;
  return (num_images() + global_batch - 1) / global_batch;
}

void BatchFiller::fill(std::int64_t step, std::int64_t unit, const Target& target, SampleMaker& maker) {
  if (options_.dtype == DType::kF64) {
    fill_as<double>(step, unit, target, maker);
  } else {
    fill_as<float>(step, unit, target, maker);
  }
}

template <class T>
void BatchFiller::fill_as(std::int64_t step, std::int64_t unit, const Target& target, SampleMaker& maker) {
  const std::int64_t first_row = unit * unit_size();
  const auto planes_of = [&](std::int64_t row) {
    return std::span<T>(target.images.slice<T>(row), static_cast<std::size_t>(target.images.shape.inner()));
  };
  auto* labels = target.labels.as<std::int32_t>();
  for (std::int64_t row = first_row; row < first_row + unit_size(); ++row) {
    const std::int64_t position = first_position(step) + row;
    labels[row] = options_.mode == LoadMode::kTraining ? make_training(position, planes_of(row), maker)
                                                       : make_evaluation(position, planes_of(row), maker);
  }
  PairMix mix;
  if (options_.mixes()) {
    PhiloxStream random = pair_stream(options_.seed, (first_position(step) + first_row) / 2);
    mix = draw_mix(options_.augment.mix, options_.image_size, random);
    mix_planes(mix, options_.image_size, planes_of(first_row), planes_of(first_row + 1));
  }
  if (!target.targets.present()) return;
  for (std::int64_t row = first_row; row < first_row + unit_size(); ++row) {
    T* shares = target.targets.slice<T>(row);
    std::fill_n(shares, num_classes_, T{0});
    if (labels[row] == kNoLabel) continue;
    const std::int64_t other = unit_size() == 2 ? 2 * first_row + 1 - row : row;
    shares[labels[row]] += static_cast<T>(mix.share);
    shares[labels[other]] += static_cast<T>(1 - mix.share);
  }
}

// False if the image cannot be read, now or before.
template <class Make>
bool BatchFiller::try_image(std::int64_t index, const Make& make) {
  if (corrupt_.contains(index)) return false;
  const auto skip = [&](const Error& error) {
    corrupt_.note(index, error.what());
    return false;
  };
  try {
    make([&](std::int64_t least_side, RgbImage& image) { images_->read(index, least_side, image); });
    return true;
  } catch (const InputError& error) {
    return skip(error);
  } catch (const FileError& error) {
    return skip(error);
  }
}

template <class T>
std::int32_t BatchFiller::make_training(std::int64_t position, std::span<T> planes, SampleMaker& maker) {
  const SampleOrder::Place place = order_.at(position);
  const SampleKey key = {options_.seed, place.epoch, place.index};
  for (std::int64_t i = 0; i < num_images(); ++i) {
    const std::int64_t index = (place.index + i) % num_images();
    if (try_image(index, [&](const auto& read) { maker.make_training(key, read, planes); }))
      return images_->label(index);
  }
  fail("none of the {} images can be read", num_images());
}

template <class T>
std::int32_t BatchFiller::make_evaluation(std::int64_t position, std::span<T> planes, SampleMaker& maker) {
  if (position < num_images() &&
      try_image(position, [&](const auto& read) { maker.make_evaluation(read, planes); })) {
    return images_->label(position);
  }
  std::ranges::fill(planes, T{0});
  return kNoLabel;
}

}  // namespace flex
