#include "profiler/cupti_callbacks.h"

#include <exception>
#include <utility>

#include "base/log.h"

namespace flex {
namespace {

thread_local std::uint64_t current_work = 0;

}  // namespace

CuptiCallbacks& CuptiCallbacks::instance() {
  static auto* const kInstance = new CuptiCallbacks;  // never deleted: see the header
  return *kInstance;
}

void CuptiCallbacks::set_current_work(std::uint64_t id) { current_work = id; }

std::vector<CuptiCallbacks::NodeEvent> CuptiCallbacks::take_node_events() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(node_events_, {});
}

void CuptiCallbacks::requested(std::uint8_t** buffer, std::size_t* size, std::size_t* max_num_records) {
  CuptiBuffers& buffers = instance().buffers();
  *buffer = buffers.request();
  *size = *buffer == nullptr ? 0 : buffers.size();
  *max_num_records = 0;  // as many as fit
}

void CuptiCallbacks::completed(void* /*context*/, std::uint32_t /*stream_id*/, std::uint8_t* buffer,
                               std::size_t /*size*/, std::size_t valid_size) {
  instance().count_lost();  // before the buffer is seen: who reads it then knows what is missing
  instance().buffers().complete(buffer, valid_size);
}

// All buffers are global ones, which have neither context nor stream.
void CuptiCallbacks::count_lost() {
  const cupti::Api* const api = api_.load();
  if (api == nullptr) return;
  std::size_t num_dropped = 0;
  if (api->num_dropped_records(nullptr, 0, &num_dropped) != cupti::kSuccess) return;
  num_lost_ += static_cast<std::int64_t>(num_dropped);
}

// An exception must not leave into CUPTI.
void CuptiCallbacks::resource_changed(void* /*user_data*/, std::uint32_t domain, std::uint32_t id,
                                      const void* data) try {
  const bool is_node = id == cupti::kGraphNodeCreated || id == cupti::kGraphNodeCloned ||
                       id == cupti::kGraphNodeDestroyStarting;
  if (domain != cupti::kResourceDomain || !is_node || data == nullptr) return;
  const auto* const graph =
      static_cast<const cupti::GraphData*>(static_cast<const cupti::ResourceData*>(data)->descriptor);
  if (graph != nullptr) instance().note_node(id, *graph);
} catch (const std::exception& error) {
  log_warning("profiler: a graph's node was not noted: {}", error.what());
}

void CuptiCallbacks::note_node(std::uint32_t id, const cupti::GraphData& graph) {
  const cupti::Api* const api = api_.load();
  if (api == nullptr) return;
  const auto id_of = [&](void* node) {
    std::uint64_t number = 0;
    const bool known = node != nullptr && api->get_graph_node_id(node, &number) == cupti::kSuccess;
    return known ? number : 0;
  };
  NodeEvent event{.node = id_of(graph.node)};
  if (id == cupti::kGraphNodeDestroyStarting) {
    event.kind = NodeEvent::Kind::kDestroyed;
  } else if (id == cupti::kGraphNodeCloned) {
    event.kind = NodeEvent::Kind::kCloned;
    event.source = id_of(graph.original_node);
  } else {
    event.source = current_work;
  }
  if (event.node == 0 || (event.source == 0 && event.kind != NodeEvent::Kind::kDestroyed)) return;
  const std::scoped_lock lock(mutex_);
  node_events_.push_back(event);
}

}  // namespace flex
