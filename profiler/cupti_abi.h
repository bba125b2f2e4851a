#pragma once

#include <cstddef>
#include <cstdint>

/// What Flex uses of CUPTI's binary interface, written down here so that no build needs CUPTI's headers and
/// the program needs no CUPTI library before it profiles. A build with the headers proves every line of it
/// (cupti_abi_check.cpp). Names follow CUPTI's.
/// @source cupti_activity.h, cupti_callbacks.h and cupti_result.h of CUDA 13.0. The fields named here lie at
/// the
///         same places since CUpti_ActivityKernel7, CUpti_ActivityMemcpy5 and CUpti_ActivityMemset3.
namespace flex::cupti {

/// CUptiResult. Other codes exist; get_result_string() names them.
inline constexpr std::int32_t kSuccess = 0;
inline constexpr std::int32_t kMaxLimitReached = 12;  ///< next_record(): the buffer's end
inline constexpr std::int32_t kInvalidKind = 21;      ///< next_record(): the rest is incomplete
inline constexpr std::int32_t kMultipleSubscribersNotSupported = 39;  ///< another tool holds CUPTI

/// CUpti_ActivityKind. KERNEL is left out: it makes kernels run one after the other.
inline constexpr std::uint32_t kMemcpy = 1;
inline constexpr std::uint32_t kMemset = 2;
inline constexpr std::uint32_t kDriver = 4;
inline constexpr std::uint32_t kRuntime = 5;
inline constexpr std::uint32_t kConcurrentKernel = 10;
inline constexpr std::uint32_t kOverhead = 17;
inline constexpr std::uint32_t kExternalCorrelation = 39;

inline constexpr std::uint32_t kExternalCustom0 = 3;  ///< CUpti_ExternalCorrelationKind
/// CUpti_ActivityFlag for flush_all(): buffers whose records all have their times, or all buffers.
inline constexpr std::uint32_t kFlushCompleted = 0;
inline constexpr std::uint32_t kFlushForced = 1;
inline constexpr std::uint32_t kResourceDomain = 3;  ///< CUpti_CallbackDomain
/// CUpti_CallbackIdResource.
inline constexpr std::uint32_t kGraphNodeCreated = 13;
inline constexpr std::uint32_t kGraphNodeDestroyStarting = 14;
inline constexpr std::uint32_t kGraphNodeCloned = 20;

inline constexpr std::size_t kRecordAlignment = 8;  ///< of buffers and of the records in them

/// Beginning of every record.
struct Record {
  std::uint32_t kind;
};

/// Beginning of CUpti_ActivityKernel7 to 10.
struct KernelRecord {
  std::uint32_t kind;
  std::uint32_t reserved0[3];
  std::uint64_t start;  ///< ns on CUPTI's clock; 0 with end 0: could not be taken
  std::uint64_t end;
  std::uint64_t completed;
  std::uint32_t device_id;
  std::uint32_t context_id;
  std::uint32_t stream_id;
  std::uint32_t reserved1[10];
  std::uint32_t correlation_id;  ///< of the call that launched it; all kernels of one graph launch share it
  std::uint64_t reserved2;
  const char* name;  ///< mangled; lives as long as the library
  std::uint64_t reserved3[4];
  std::uint64_t graph_node_id;  ///< 0: not launched by a graph
  std::uint32_t reserved4;
  std::uint32_t graph_id;
};

/// Beginning of CUpti_ActivityMemcpy5 to 6 and, but for its first bytes, of CUpti_ActivityMemset3 to 4.
struct CopyRecord {
  std::uint32_t kind;
  std::uint8_t copy_kind;  ///< CUpti_ActivityMemcpyKind; of a memset: part of the value
  std::uint8_t reserved0[3];
  std::uint64_t bytes;
  std::uint64_t start;
  std::uint64_t end;
  std::uint32_t device_id;
  std::uint32_t context_id;
  std::uint32_t stream_id;
  std::uint32_t correlation_id;
  std::uint64_t reserved1[2];
  std::uint64_t graph_node_id;
};

/// CUpti_ActivityExternalCorrelation.
struct ExternalCorrelationRecord {
  std::uint32_t kind;
  std::uint32_t external_kind;
  std::uint64_t external_id;
  std::uint32_t correlation_id;
  std::uint32_t reserved;
};

/// Beginning of CUpti_ActivityOverhead to 3.
struct OverheadRecord {
  std::uint32_t kind;
  std::uint32_t overhead_kind;
  std::uint32_t reserved[4];
  std::uint64_t start;
  std::uint64_t end;
};

/// CUpti_ResourceData.
struct ResourceData {
  void* context;
  void* handle;
  const void* descriptor;  ///< of graph nodes: a GraphData
};

/// Beginning of CUpti_GraphData.
struct GraphData {
  void* graph;
  void* original_graph;
  void* node;           ///< CUgraphNode
  void* original_node;  ///< what it was cloned from
};

using BufferRequested = void (*)(std::uint8_t** buffer, std::size_t* size, std::size_t* max_num_records);
using BufferCompleted = void (*)(void* context, std::uint32_t stream_id, std::uint8_t* buffer,
                                 std::size_t size, std::size_t valid_size);
using Callback = void (*)(void* user_data, std::uint32_t domain, std::uint32_t id, const void* data);

/// The functions of CUPTI that Flex calls: of the library, or of a test in its place.
struct Api {
  std::int32_t (*get_version)(std::uint32_t* version);
  std::int32_t (*get_result_string)(std::int32_t result, const char** text);
  std::int32_t (*subscribe)(void** subscriber, Callback callback, void* user_data);
  std::int32_t (*unsubscribe)(void* subscriber);
  std::int32_t (*enable_callback)(std::uint32_t enable, void* subscriber, std::uint32_t domain,
                                  std::uint32_t id);
  std::int32_t (*register_callbacks)(BufferRequested requested, BufferCompleted completed);
  std::int32_t (*enable)(std::uint32_t kind);
  std::int32_t (*disable)(std::uint32_t kind);
  std::int32_t (*flush_all)(std::uint32_t flag);
  std::int32_t (*next_record)(std::uint8_t* buffer, std::size_t valid_size, Record** record);
  std::int32_t (*num_dropped_records)(void* context, std::uint32_t stream_id, std::size_t* dropped);
  std::int32_t (*get_timestamp)(std::uint64_t* timestamp);
  std::int32_t (*push_external_id)(std::uint32_t kind, std::uint64_t id);
  std::int32_t (*pop_external_id)(std::uint32_t kind, std::uint64_t* last_id);
  std::int32_t (*get_graph_node_id)(void* node, std::uint64_t* id);
  std::int32_t (*finalize)();
};

}  // namespace flex::cupti
