#pragma once

#include <cstdint>
#include <memory>

#include "kernels/tensor.h"
#include "models/data/augment.h"
#include "models/data/corrupt_images.h"
#include "models/data/sample_order.h"

namespace flex {

enum class LoadMode : std::uint8_t {
  kTraining,    ///< epochs without end, shuffled, augmented
  kEvaluation,  ///< every image once, in order, nothing random
};

/// What batches a loader makes: the same global batch for every number of ranks and of workers.
struct LoaderOptions {
  LoadMode mode = LoadMode::kTraining;
  std::int64_t local_batch = 1;  ///< images of this rank in a step
  int rank = 0;
  int world = 1;
  std::int64_t image_size = 224;  ///< S
  std::int64_t num_classes = 0;   ///< K of soft targets, at least those of the set; 0: as many
  bool soft_targets = false;      ///< also where nothing is mixed
  DType dtype = DType::kF32;      ///< of images and targets: fp32 or fp64
  Device device = Device::cpu();  ///< that batches will be copied to
  int num_workers = 2;            ///< threads
  std::int64_t prefetch = 2;      ///< batches made ahead
  std::uint64_t seed = 0;         ///< of order and augmentation
  AugmentConfig augment{};
  double max_corrupt_fraction = 0.01;  ///< of the set's images; more that cannot be read are fatal

  /// Samples 2i and 2i + 1 of the endless sequence are mixed with each other.
  [[nodiscard]] bool mixes() const { return mode == LoadMode::kTraining && augment.mix.enabled(); }
};

/// Label of an evaluation's row that is padding, or whose image could not be read.
inline constexpr std::int32_t kNoLabel = -1;

/// Makes the samples of batches. A batch is a function of the seed and its step alone: position p of the
/// endless sequence of epochs is image SampleOrder::at(p); step s of W ranks has the positions
/// [s W B, (s + 1) W B), rank r the r-th B of them. In evaluation position p is image p. Positions 2i and
/// 2i + 1 are mixed by a draw that is keyed by i; as B is then even, they always fall to one rank.
///
/// A training image that cannot be read is replaced by the next of the set that can, with its label. All
/// functions may be called from several threads at once, fill() for different units.
class BatchFiller {
 public:
  /// Where a batch goes: (B, 3, S, S), (B) i32, and (B, K) or absent.
  struct Target {
    TensorView images, labels, targets;
  };

  /// @throws InputError for options that cannot be.
  BatchFiller(std::shared_ptr<const ImageSet> images, const LoaderOptions& options);

  /// Parts of a batch that are made independently: pairs if they are mixed, else samples.
  [[nodiscard]] std::int64_t num_units() const { return options_.local_batch / unit_size(); }
  /// @throws InputError if too many images are corrupt.
  void fill(std::int64_t step, std::int64_t unit, const Target& target, SampleMaker& maker);

  /// Rows of this rank's batch that stand for an image; fewer than B only in evaluation.
  [[nodiscard]] std::int64_t num_valid(std::int64_t step) const;
  /// Of an evaluation.
  [[nodiscard]] std::int64_t num_batches() const;
  [[nodiscard]] std::int64_t num_classes() const { return num_classes_; }
  [[nodiscard]] std::int64_t num_images() const { return images_->num_images(); }
  [[nodiscard]] std::int64_t num_corrupt() const { return corrupt_.count(); }

 private:
  [[nodiscard]] std::int64_t unit_size() const { return options_.mixes() ? 2 : 1; }
  [[nodiscard]] std::int64_t first_position(std::int64_t step) const;
  template <class T>
  void fill_as(std::int64_t step, std::int64_t unit, const Target& target, SampleMaker& maker);
  template <class T>
  std::int32_t make_training(std::int64_t position, std::span<T> planes, SampleMaker& maker);
  template <class T>
  std::int32_t make_evaluation(std::int64_t position, std::span<T> planes, SampleMaker& maker);
  template <class Make>
  bool try_image(std::int64_t index, const Make& make);

  std::shared_ptr<const ImageSet> images_;
  LoaderOptions options_;
  std::int64_t num_classes_;
  SampleOrder order_;
  CorruptImages corrupt_;
};

}  // namespace flex
