#pragma once

#include <cstdint>
#include <future>
#include <vector>

#include "models/data/image_set.h"
#include "models/trainer.h"

namespace flex::bench {

/// Images of a set in memory, as bytes; equal for all who read them.
class RenderedImages {
 public:
  /// Reads all of `set`, whose images are `size` by `size`, on `num_threads` threads.
  RenderedImages(const ImageSet& set, std::int64_t size, int num_threads);

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(labels_.size()); }
  [[nodiscard]] std::int64_t size() const { return size_; }
  [[nodiscard]] std::int32_t label(std::int64_t index) const {
    return labels_[static_cast<std::size_t>(index)];
  }
  /// (size, size, 3)
  [[nodiscard]] const std::uint8_t* pixels(std::int64_t index) const {
    return pixels_.data() + index * size_ * size_ * 3;
  }

 private:
  void read(const ImageSet& set, std::int64_t begin, std::int64_t end);

  std::int64_t size_;
  std::vector<std::uint8_t> pixels_;
  std::vector<std::int32_t> labels_;
};

/// A batch in staging memory.
struct StagedBatch {
  StagedBatch(std::int64_t batch, std::int64_t size, Device device);
  Tensor images;  ///< (B, 3, S, S) fp32, about -2 to 2
  Tensor labels;  ///< (B) i32
};

/// Image `index` into place `place` of a batch, moved by whole pixels; what comes in from beyond an edge is
/// the edge.
void stage_image(const RenderedImages& from, std::int64_t index, std::int64_t place, int move_x, int move_y,
                 StagedBatch& batch);

/// Training batches in an order that (seed, number of images) decide: every epoch has each image once, moved
/// by up to kMostMove pixels. The next batch is made while one is used.
class TrainingBatches {
 public:
  static constexpr int kMostMove = 3;

  /// `images` must outlive it.
  TrainingBatches(const RenderedImages& images, std::int64_t batch, std::uint64_t seed, Device device);

  /// The next batch; valid until the next call.
  [[nodiscard]] ImageBatch next();

 private:
  void make(StagedBatch& batch);
  [[nodiscard]] std::int64_t next_index();

  const RenderedImages& images_;
  std::uint64_t seed_;
  std::int64_t step_ = 0;   // of the batch being made
  std::int64_t drawn_ = 0;  // images of all batches so far
  std::vector<std::int32_t> order_;
  StagedBatch batches_[2];  // one in use, one being made
  std::size_t turn_ = 0;
  std::future<void> made_;  // last: waits for the batch being made before the rest goes
};

}  // namespace flex::bench
