#include "kernels/stream_graph.h"

#include <utility>

#include "base/log.h"
#include "base/require.h"

#ifdef FLEX_HAS_CUDA
#include "kernels/cuda_check.h"
#endif

namespace flex {

StreamGraph::StreamGraph(StreamGraph&& other) noexcept
    : executable_(std::exchange(other.executable_, nullptr)) {}

StreamGraph& StreamGraph::operator=(StreamGraph&& other) noexcept {
  std::swap(executable_, other.executable_);
  return *this;
}

#ifdef FLEX_HAS_CUDA

namespace {

cudaStream_t native_of(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

/// The graph of a capture under way, destroyed with it if it ends by an exception.
class Capture {
 public:
  explicit Capture(Stream& stream) : stream_(native_of(stream)) {
    FLEX_CUDA_CHECK(cudaSetDevice(stream.device().index));
    // Thread-local: what other threads of the program do with CUDA meanwhile is no concern of this capture.
    FLEX_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  }
  ~Capture() {
    if (capturing_) static_cast<void>(cudaStreamEndCapture(stream_, &graph_));
    if (graph_ != nullptr) static_cast<void>(cudaGraphDestroy(graph_));
    if (capturing_) static_cast<void>(cudaGetLastError());  // the exception under way says what was wrong
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraph_t end() {
    capturing_ = false;
    FLEX_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph_));
    return graph_;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  bool capturing_ = true;
};

}  // namespace

bool StreamGraph::can_capture(const Stream& stream) {
  if (stream.device().is_cpu() || native_of(stream) == nullptr || native_of(stream) == cudaStreamLegacy)
    return false;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  FLEX_CUDA_CHECK(cudaStreamIsCapturing(native_of(stream), &status));
  return status == cudaStreamCaptureStatusNone;
}

StreamGraph StreamGraph::capture(Stream& stream, const std::function<void()>& queue) {
  require(can_capture(stream),
          "a graph cannot be captured from this stream of {}; use a CUDA stream of its own",
          to_string(stream.device()));
  Capture capture(stream);
  queue();
  cudaGraph_t graph = capture.end();
  cudaGraphExec_t executable = nullptr;
  FLEX_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
  return StreamGraph(executable);
}

StreamGraph::~StreamGraph() {
  if (executable_ == nullptr) return;
  const cudaError_t status = cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
  if (status == cudaSuccess || status == cudaErrorCudartUnloading) return;  // the process is exiting: no news
  log_error("graph not destroyed: {}", cudaGetErrorString(status));
}

void StreamGraph::launch(Stream& stream) {
  FLEX_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), native_of(stream)));
}

#else

bool StreamGraph::can_capture(const Stream& /*stream*/) { return false; }
StreamGraph StreamGraph::capture(Stream& stream, const std::function<void()>& /*queue*/) {
  fail("a graph cannot be captured from this stream of {}; use a CUDA stream of its own",
       to_string(stream.device()));
}
StreamGraph::~StreamGraph() = default;
void StreamGraph::launch(Stream& /*stream*/) {}

#endif

}  // namespace flex
