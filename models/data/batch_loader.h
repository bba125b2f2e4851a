#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "models/data/batch_filler.h"
#include "models/trainer.h"

namespace flex {

/// This rank's batches of a set of images, made ahead by threads. Which batches these are, see BatchFiller:
/// neither the number of threads nor of ranks, nor where a run was resumed, changes them.
///
/// All functions are called from one thread. The destructor waits for the images in the making.
class BatchLoader {
 public:
  /// Begins to make the batches of step 0. @throws InputError for options that cannot be.
  BatchLoader(std::shared_ptr<const ImageSet> images, const LoaderOptions& options);
  ~BatchLoader() = default;
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The batch of step(), which then is the next one. Waits until it is made. `targets` (B, K) is there if
  /// samples are mixed, or options ask for it; it is not smoothed, and labels are then those before mixing.
  /// In evaluation rows from num_valid() on are padding: zeros with the label kNoLabel, which images that
  /// cannot be read have too. Valid until the next call of next_blocking() or seek().
  /// @throws InputError if too many images cannot be read, or an evaluation is at its end; what a worker
  /// threw.
  ImageBatch next_blocking();
  /// Rows that stand for an image, of the batch that next_blocking() gave last.
  [[nodiscard]] std::int64_t num_valid() const { return num_valid_; }

  /// Goes on at `step`, zero or more: to resume, or to evaluate again.
  void seek(std::int64_t step);
  /// Of the batch that next_blocking() gives next.
  [[nodiscard]] std::int64_t step() const { return step_; }
  /// Of an evaluation, the same on every rank.
  [[nodiscard]] std::int64_t num_batches() const { return filler_.num_batches(); }
  /// Images that could not be read so far, by this rank, each counted once.
  [[nodiscard]] std::int64_t num_corrupt() const { return filler_.num_corrupt(); }

 private:
  /// Memory of one batch. The ring holds the batch that the caller has, and those being made.
  struct Slot {
    Tensor images, labels, targets;
    std::int64_t step = -1;    // that it is being filled for
    std::int64_t missing = 0;  // units
    std::exception_ptr error;
  };
  struct Unit {
    std::int64_t step = 0;
    std::int64_t index = 0;
  };

  [[nodiscard]] Slot& slot_of(std::int64_t step);
  [[nodiscard]] bool has_work() const;
  [[nodiscard]] bool is_made(std::int64_t step);
  void work(const std::stop_token& stop);
  Unit claim();

  LoaderOptions options_;
  BatchFiller filler_;
  std::vector<Slot> slots_;
  std::int64_t num_valid_ = 0;
  std::int64_t step_ = 0;  // written by the caller under the mutex

  std::mutex mutex_;  // of all below, and of the slots' steps, counts and errors
  std::condition_variable_any changed_;
  Unit next_;                     // to be claimed
  std::int64_t num_claimed_ = 0;  // units that workers are making
  bool is_paused_ = false;

  std::vector<std::jthread> workers_;  // last: they use the rest
};

}  // namespace flex
