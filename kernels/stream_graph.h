#pragma once

#include <functional>

#include "kernels/stream.h"

namespace flex {

/// Work of a CUDA stream that was captured once and is launched as a whole: one call to the driver instead of
/// one for every kernel. It holds the addresses and arguments of the work, not copies of its data.
class StreamGraph {
 public:
  /// True if the work of `stream` can be captured: a CUDA stream that is not the legacy default stream, nor
  /// being captured by its owner.
  [[nodiscard]] static bool can_capture(const Stream& stream);

  /// Captures what `queue` queues on `stream`, which does not run, as a graph that is ready to launch. Other
  /// streams take part from where they wait for an event of `stream` to where `stream` waits for theirs. The
  /// host must not wait for the stream inside. @throws what `queue` throws; InputError if the stream cannot
  /// be captured; DeviceError if it holds what a graph cannot.
  [[nodiscard]] static StreamGraph capture(Stream& stream, const std::function<void()>& queue);

  ~StreamGraph();  // NOLINT(performance-trivially-destructible): frees the graph in a build with CUDA
  StreamGraph(StreamGraph&& other) noexcept;
  StreamGraph& operator=(StreamGraph&& other) noexcept;
  StreamGraph(const StreamGraph&) = delete;
  StreamGraph& operator=(const StreamGraph&) = delete;

  /// Queues the work. A graph runs after its own earlier launches, also on another stream.
  void launch(Stream& stream);

 private:
  explicit StreamGraph(void* executable) : executable_(executable) {}

  void* executable_ = nullptr;  // cudaGraphExec_t
};

}  // namespace flex
