#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "profiler/cupti_abi.h"
#include "profiler/cupti_buffers.h"

namespace flex {

/// What CUPTI's callbacks reach: they carry no pointer of ours, so there is one for the process. It is never
/// destroyed, since CUPTI may call back from its threads as long as the process lives. For any threads; its
/// lock is never held across a call of CUPTI.
class CuptiCallbacks {
 public:
  static constexpr std::size_t kBufferBytes = std::size_t{1} << 20;  ///< 3744 kernels with their calls

  /// A graph node that came, was copied or is about to go.
  struct NodeEvent {
    enum class Kind : std::uint8_t { kCaptured, kCloned, kDestroyed };
    Kind kind = Kind::kCaptured;
    std::uint64_t node = 0;
    std::uint64_t source = 0;  ///< captured: pack() of the work; cloned: the original's node
  };

  [[nodiscard]] static CuptiCallbacks& instance();
  CuptiCallbacks(const CuptiCallbacks&) = delete;
  CuptiCallbacks& operator=(const CuptiCallbacks&) = delete;

  /// `api` must live as long as the process. Null: call CUPTI no more from callbacks.
  void set_api(const cupti::Api* api) { api_.store(api); }
  [[nodiscard]] CuptiBuffers& buffers() { return buffers_; }
  /// Records that CUPTI dropped since the last call.
  [[nodiscard]] std::int64_t take_lost() { return num_lost_.exchange(0); }
  /// In the order in which they happened.
  [[nodiscard]] std::vector<NodeEvent> take_node_events();

  /// Graph nodes that the calling thread captures from now on are of the work that packs to `id`; 0: of none.
  static void set_current_work(std::uint64_t id);

  // What is given to CUPTI.
  static void requested(std::uint8_t** buffer, std::size_t* size, std::size_t* max_num_records);
  static void completed(void* context, std::uint32_t stream_id, std::uint8_t* buffer, std::size_t size,
                        std::size_t valid_size);
  static void resource_changed(void* user_data, std::uint32_t domain, std::uint32_t id, const void* data);

 private:
  CuptiCallbacks() : buffers_(kBufferBytes) {}
  void count_lost();
  void note_node(std::uint32_t id, const cupti::GraphData& graph);

  CuptiBuffers buffers_;
  std::atomic<const cupti::Api*> api_ = nullptr;
  std::atomic<std::int64_t> num_lost_ = 0;
  std::mutex mutex_;
  std::vector<NodeEvent> node_events_;
};

}  // namespace flex
