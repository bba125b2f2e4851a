#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/kernel_work.h"
#include "profiler/mark_source.h"

namespace flex {

/// What all operations of one name took.
struct OperationShare {
  std::string name;
  std::int64_t count = 0;
  double total_us = 0;
  std::vector<KernelWork> work{};  ///< of what they are made of: a kernel, or the parts of a layer

  [[nodiscard]] KernelWork total_work() const;
};

/// Sum of the floors of what the operations are made of.
[[nodiscard]] double floor_us(const OperationShare& share, const DeviceCeilings& ceilings);

/// Times the operations of a stream, one after the other: each from when the stream came to it to when it was
/// done. On CUDA by events, which also take the gaps between launches apart. For one thread.
class OperationClock {
 public:
  explicit OperationClock(Device device) : marks_(make_mark_source(device)) {}

  /// Forgets what was timed. May wait for what `stream` holds.
  void start_blocking(Stream& stream);
  /// Around what queues one operation. `name` must live as long as this.
  void begin(std::string_view name, Stream& stream);
  void end(Stream& stream) { marks_->mark(stream); }
  /// A part of what the operation does that began last.
  void add(const KernelWork& work) { work_.push_back({names_.size() - 1, work}); }
  /// By name, the largest first. The streams must have been synchronized.
  [[nodiscard]] std::vector<OperationShare> shares();

 private:
  std::unique_ptr<MarkSource> marks_;
  struct Part {
    std::size_t operation;
    KernelWork work;
  };
  std::vector<std::string_view> names_;  // of each pair of marks
  std::vector<Part> work_;
};

}  // namespace flex
