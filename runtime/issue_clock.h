#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/executor.h"

namespace flex {

/// How long the host takes to queue each operation of an executor, with everything around it: from when the
/// one before it was queued, or from start(). Two readings of a clock, nothing else: what it times is what
/// happens without it. Allocates nothing once it has seen as many operations.
class IssueClock final : public ExecutionObserver {
 public:
  /// Forgets what it has seen; the next operation's time begins now.
  void start();
  void before(const Schedule& schedule, std::size_t index, Stream& stream) override;
  void after(const Schedule& schedule, std::size_t index, Stream& stream) override;

  /// By operation, in the order in which they were queued; of a host operation only until it began.
  [[nodiscard]] std::span<const std::int64_t> issue_ns() const { return issue_ns_; }

 private:
  std::int64_t last_ns_ = 0;
  std::vector<std::int64_t> issue_ns_;
};

}  // namespace flex
