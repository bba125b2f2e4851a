#include "models/data/batch_loader.h"

#include <utility>

#include "base/require.h"

namespace flex {

BatchLoader::BatchLoader(std::shared_ptr<const ImageSet> images, const LoaderOptions& options)
    : options_(options), filler_(std::move(images), options) {
  const std::int64_t B = options.local_batch;
  const std::int64_t S = options.image_size;
  slots_.resize(static_cast<std::size_t>(options.prefetch + 1));
  for (Slot& slot : slots_) {
    slot.images = Tensor::staging(options.dtype, {B, kImagePlanes, S, S}, options.device);
    slot.labels = Tensor::staging(DType::kI32, {B}, options.device);
    if (options.mixes() || options.soft_targets)
      slot.targets = Tensor::staging(options.dtype, {B, filler_.num_classes()}, options.device);
  }
  for (int i = 0; i < options.num_workers; ++i)
    workers_.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

BatchLoader::Slot& BatchLoader::slot_of(std::int64_t step) {
  return slots_[static_cast<std::size_t>(step) % slots_.size()];
}

// Batches [step_, step_ + prefetch) may be in the making; the caller may still look at that of step_ - 1.
bool BatchLoader::has_work() const {
  const bool is_over = options_.mode == LoadMode::kEvaluation && next_.step >= filler_.num_batches();
  return !is_paused_ && !is_over && next_.step < step_ + options_.prefetch;
}

bool BatchLoader::is_made(std::int64_t step) {
  const Slot& slot = slot_of(step);
  return slot.step == step && slot.missing == 0;
}

BatchLoader::Unit BatchLoader::claim() {
  const Unit unit = next_;
  if (unit.index == 0) {
    Slot& slot = slot_of(unit.step);
    slot.step = unit.step;
    slot.missing = filler_.num_units();
    slot.error = nullptr;
  }
  ++next_.index;
  if (next_.index == filler_.num_units()) next_ = {unit.step + 1, 0};
  ++num_claimed_;
  return unit;
}

void BatchLoader::work(const std::stop_token& stop) {
  SampleMaker maker(options_.augment, options_.image_size);
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return has_work(); })) {
    if (stop.stop_requested()) return;
    const Unit unit = claim();
    Slot& slot = slot_of(unit.step);
    lock.unlock();
    std::exception_ptr error;
    try {
      filler_.fill(unit.step, unit.index, {slot.images, slot.labels, slot.targets}, maker);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error != nullptr && slot.error == nullptr) slot.error = error;
    --slot.missing;
    --num_claimed_;
    if (slot.missing == 0 || num_claimed_ == 0) changed_.notify_all();
  }
}

ImageBatch BatchLoader::next_blocking() {
  std::unique_lock lock(mutex_);
  require(options_.mode == LoadMode::kTraining || step_ < filler_.num_batches(),
          "the evaluation's {} batches were all given; seek(0) begins again", filler_.num_batches());
  changed_.wait(lock, [this] { return is_made(step_); });
  const Slot& slot = slot_of(step_);
  if (slot.error != nullptr) std::rethrow_exception(slot.error);
  num_valid_ = filler_.num_valid(step_);
  ++step_;
  changed_.notify_all();
  return {.images = slot.images, .labels = slot.labels, .targets = slot.targets};
}

void BatchLoader::seek(std::int64_t step) {
  require(step >= 0, "BatchLoader::seek: there is no step {}", step);
  std::unique_lock lock(mutex_);
  is_paused_ = true;
  changed_.wait(lock, [this] { return num_claimed_ == 0; });
  for (Slot& slot : slots_) slot.step = -1;
  step_ = step;
  next_ = {step, 0};
  is_paused_ = false;
  changed_.notify_all();
}

}  // namespace flex
