#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/arena.h"
#include "kernels/stream.h"
#include "models/operation_clock.h"

namespace flex {

class GemmAlgorithms;

/// Memory for the activations of one model: taken in order and given back in reverse, out of one block whose
/// size is planned ahead. A pass runs twice over the same code: once with plan() on, when views point nowhere
/// and launch() queues nothing, to learn the peak; then for real. So what is planned is what runs.
class ActivationStack {
 public:
  explicit ActivationStack(Device device) : arena_(device) {}

  /// From here to end_plan() nothing is real. Only while nothing is taken.
  void begin_plan() {
    planning_ = true;
    planned_bytes_ = 0;
  }
  /// Makes room for the largest that was planned. Nothing that runs may use the stack.
  void end_plan() {
    planning_ = false;
    arena_.reset();
    arena_.reserve(peak_bytes_);
  }
  [[nodiscard]] bool planning() const { return planning_; }

  [[nodiscard]] TensorView take(DType dtype, Shape shape) {
    if (!planning_) return arena_.take(dtype, shape);
    planned_bytes_ += (checked_bytes(dtype, shape) + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
    peak_bytes_ = planned_bytes_ > peak_bytes_ ? planned_bytes_ : peak_bytes_;
    return {nullptr, dtype, shape, arena_.device()};
  }
  [[nodiscard]] std::int64_t mark() const { return planning_ ? planned_bytes_ : arena_.mark(); }
  void rewind(std::int64_t mark) {
    if (planning_) {
      planned_bytes_ = mark;
    } else {
      arena_.rewind(mark);
    }
  }
  /// Gives everything back. What comes next is queued on the same stream.
  void reset() {
    if (planning_) {
      planned_bytes_ = 0;
    } else {
      arena_.reset();
    }
  }

  /// Largest use so far that was planned, in bytes.
  [[nodiscard]] std::int64_t peak_bytes() const { return peak_bytes_; }
  /// How often memory was asked of the device.
  [[nodiscard]] std::int64_t num_allocations() const { return arena_.num_allocations(); }
  [[nodiscard]] Device device() const { return arena_.device(); }

 private:
  Arena arena_;
  bool planning_ = false;
  std::int64_t planned_bytes_ = 0;
  std::int64_t peak_bytes_ = 0;
};

/// Gives back what was taken while it lives.
class ActivationScope {
 public:
  explicit ActivationScope(ActivationStack& stack) : stack_(stack), mark_(stack.mark()) {}
  ~ActivationScope() { stack_.rewind(mark_); }
  ActivationScope(const ActivationScope&) = delete;
  ActivationScope& operator=(const ActivationScope&) = delete;

 private:
  ActivationStack& stack_;
  std::int64_t mark_;
};

/// What the parts of a model share while one of its passes is queued.
struct ModelPass {
  ActivationStack& stack;
  Stream& stream;
  GemmAlgorithms* gemm = nullptr;
  DType dtype = DType::kF32;
  bool training = false;            ///< keep what the backward pass needs
  int rank = 0;                     ///< of R rows, this rank's are the rank'th R of the global batch
  std::uint64_t iteration = 0;      ///< of what is drawn at random
  double loss_gradient = 0;         ///< backward: by each auxiliary loss
  OperationClock* clock = nullptr;  ///< times what is queued; null: nobody does

  /// Queues one kernel, unless the pass is only planned.
  template <class Args>
  void launch(std::string_view name, void (*kernel)(const Args&, Stream&), const Args& args) const {
    queue(name, [&] {
      if (clock != nullptr) clock->add(work_of(args));
      kernel(args, stream);
    });
  }
  /// Does what queues work, unless the pass is only planned.
  template <class Work>
  void queue(std::string_view name, const Work& work) const {
    if (stack.planning()) return;
    if (clock != nullptr) clock->begin(name, stream);
    work();
    if (clock != nullptr) clock->end(stream);
  }
  [[nodiscard]] TensorView take(Shape shape) const { return stack.take(dtype, shape); }
  [[nodiscard]] TensorView take_wide(Shape shape) const { return stack.take(gate_dtype(dtype), shape); }
  [[nodiscard]] TensorView take_bytes(std::int64_t bytes) const {
    return bytes == 0 ? TensorView{} : stack.take(DType::kU8, {bytes});
  }
};

}  // namespace flex
