// Proves cupti_abi.h by CUPTI's own headers. Compiles to nothing.
#ifdef FLEX_HAS_CUPTI

#include <cupti.h>

#include <type_traits>

#include "profiler/cupti_abi.h"

namespace flex::cupti {
namespace {

#if CUPTI_API_VERSION >= 130000
using Kernel = CUpti_ActivityKernel10;
using Memcpy = CUpti_ActivityMemcpy6;
using Overhead = CUpti_ActivityOverhead3;
#else
using Kernel = CUpti_ActivityKernel9;
using Memcpy = CUpti_ActivityMemcpy5;
using Overhead = CUpti_ActivityOverhead;
#endif
using Memset = CUpti_ActivityMemset4;
using ExternalCorrelation = CUpti_ActivityExternalCorrelation;

// NOLINTBEGIN(bugprone-sizeof-expression): sizes of pointers are meant
#define FLEX_SAME_PLACE(ours, our_field, theirs, their_field)                 \
  static_assert(offsetof(ours, our_field) == offsetof(theirs, their_field) && \
                sizeof(ours::our_field) == sizeof(theirs::their_field))

FLEX_SAME_PLACE(KernelRecord, kind, Kernel, kind);
FLEX_SAME_PLACE(KernelRecord, start, Kernel, start);
FLEX_SAME_PLACE(KernelRecord, end, Kernel, end);
FLEX_SAME_PLACE(KernelRecord, completed, Kernel, completed);
FLEX_SAME_PLACE(KernelRecord, device_id, Kernel, deviceId);
FLEX_SAME_PLACE(KernelRecord, context_id, Kernel, contextId);
FLEX_SAME_PLACE(KernelRecord, stream_id, Kernel, streamId);
FLEX_SAME_PLACE(KernelRecord, correlation_id, Kernel, correlationId);
FLEX_SAME_PLACE(KernelRecord, name, Kernel, name);
FLEX_SAME_PLACE(KernelRecord, graph_node_id, Kernel, graphNodeId);
FLEX_SAME_PLACE(KernelRecord, graph_id, Kernel, graphId);

FLEX_SAME_PLACE(CopyRecord, kind, Memcpy, kind);
FLEX_SAME_PLACE(CopyRecord, copy_kind, Memcpy, copyKind);
FLEX_SAME_PLACE(CopyRecord, bytes, Memcpy, bytes);
FLEX_SAME_PLACE(CopyRecord, start, Memcpy, start);
FLEX_SAME_PLACE(CopyRecord, end, Memcpy, end);
FLEX_SAME_PLACE(CopyRecord, device_id, Memcpy, deviceId);
FLEX_SAME_PLACE(CopyRecord, context_id, Memcpy, contextId);
FLEX_SAME_PLACE(CopyRecord, stream_id, Memcpy, streamId);
FLEX_SAME_PLACE(CopyRecord, correlation_id, Memcpy, correlationId);
FLEX_SAME_PLACE(CopyRecord, graph_node_id, Memcpy, graphNodeId);

FLEX_SAME_PLACE(CopyRecord, kind, Memset, kind);
FLEX_SAME_PLACE(CopyRecord, bytes, Memset, bytes);
FLEX_SAME_PLACE(CopyRecord, start, Memset, start);
FLEX_SAME_PLACE(CopyRecord, end, Memset, end);
FLEX_SAME_PLACE(CopyRecord, device_id, Memset, deviceId);
FLEX_SAME_PLACE(CopyRecord, context_id, Memset, contextId);
FLEX_SAME_PLACE(CopyRecord, stream_id, Memset, streamId);
FLEX_SAME_PLACE(CopyRecord, correlation_id, Memset, correlationId);
FLEX_SAME_PLACE(CopyRecord, graph_node_id, Memset, graphNodeId);

FLEX_SAME_PLACE(ExternalCorrelationRecord, external_kind, ExternalCorrelation, externalKind);
FLEX_SAME_PLACE(ExternalCorrelationRecord, external_id, ExternalCorrelation, externalId);
FLEX_SAME_PLACE(ExternalCorrelationRecord, correlation_id, ExternalCorrelation, correlationId);
static_assert(sizeof(ExternalCorrelationRecord) == sizeof(ExternalCorrelation));

FLEX_SAME_PLACE(OverheadRecord, overhead_kind, Overhead, overheadKind);
FLEX_SAME_PLACE(OverheadRecord, start, Overhead, start);
FLEX_SAME_PLACE(OverheadRecord, end, Overhead, end);

FLEX_SAME_PLACE(ResourceData, descriptor, CUpti_ResourceData, resourceDescriptor);
FLEX_SAME_PLACE(GraphData, node, CUpti_GraphData, node);
FLEX_SAME_PLACE(GraphData, original_node, CUpti_GraphData, originalNode);
#undef FLEX_SAME_PLACE

static_assert(kSuccess == CUPTI_SUCCESS && kMaxLimitReached == CUPTI_ERROR_MAX_LIMIT_REACHED &&
              kInvalidKind == CUPTI_ERROR_INVALID_KIND &&
              kMultipleSubscribersNotSupported == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED);
static_assert(kMemcpy == CUPTI_ACTIVITY_KIND_MEMCPY && kMemset == CUPTI_ACTIVITY_KIND_MEMSET &&
              kDriver == CUPTI_ACTIVITY_KIND_DRIVER && kRuntime == CUPTI_ACTIVITY_KIND_RUNTIME &&
              kConcurrentKernel == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL &&
              kOverhead == CUPTI_ACTIVITY_KIND_OVERHEAD &&
              kExternalCorrelation == CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION);
static_assert(kExternalCustom0 == CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0 &&
              kFlushForced == CUPTI_ACTIVITY_FLAG_FLUSH_FORCED &&
              kResourceDomain == CUPTI_CB_DOMAIN_RESOURCE &&
              kGraphNodeCreated == CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED &&
              kGraphNodeDestroyStarting == CUPTI_CBID_RESOURCE_GRAPHNODE_DESTROY_STARTING &&
              kGraphNodeCloned == CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED);
static_assert(kRecordAlignment == ACTIVITY_RECORD_ALIGNMENT);

/// True if calls through the one type do what calls through the other do: as many parameters, of the same
/// sizes, pointers where there are pointers.
template <class Ours, class Theirs>
constexpr bool kSameCall = false;
template <class R, class... A, class S, class... B>
requires(sizeof...(A) == sizeof...(B)) constexpr bool kSameCall<R (*)(A...), S (*)(B...)> =
    sizeof(R) == sizeof(S) && ((sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B>)&&...);
template <class... A, class... B>
requires(sizeof...(A) == sizeof...(B)) constexpr bool kSameCall<void (*)(A...), void (*)(B...)> =
    ((sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B>)&&...);

static_assert(kSameCall<decltype(Api::get_version), decltype(&cuptiGetVersion)>);
static_assert(kSameCall<decltype(Api::get_result_string), decltype(&cuptiGetResultString)>);
static_assert(kSameCall<decltype(Api::subscribe), decltype(&cuptiSubscribe)>);
static_assert(kSameCall<decltype(Api::unsubscribe), decltype(&cuptiUnsubscribe)>);
static_assert(kSameCall<decltype(Api::enable_callback), decltype(&cuptiEnableCallback)>);
static_assert(kSameCall<decltype(Api::register_callbacks), decltype(&cuptiActivityRegisterCallbacks)>);
static_assert(kSameCall<decltype(Api::enable), decltype(&cuptiActivityEnable)>);
static_assert(kSameCall<decltype(Api::disable), decltype(&cuptiActivityDisable)>);
static_assert(kSameCall<decltype(Api::flush_all), decltype(&cuptiActivityFlushAll)>);
static_assert(kSameCall<decltype(Api::next_record), decltype(&cuptiActivityGetNextRecord)>);
static_assert(kSameCall<decltype(Api::num_dropped_records), decltype(&cuptiActivityGetNumDroppedRecords)>);
static_assert(kSameCall<decltype(Api::get_timestamp), decltype(&cuptiGetTimestamp)>);
static_assert(kSameCall<decltype(Api::push_external_id), decltype(&cuptiActivityPushExternalCorrelationId)>);
static_assert(kSameCall<decltype(Api::pop_external_id), decltype(&cuptiActivityPopExternalCorrelationId)>);
static_assert(kSameCall<decltype(Api::get_graph_node_id), decltype(&cuptiGetGraphNodeId)>);
static_assert(kSameCall<decltype(Api::finalize), decltype(&cuptiFinalize)>);
static_assert(kSameCall<BufferRequested, CUpti_BuffersCallbackRequestFunc>);
static_assert(kSameCall<BufferCompleted, CUpti_BuffersCallbackCompleteFunc>);
static_assert(kSameCall<Callback, CUpti_CallbackFunc>);

// NOLINTEND(bugprone-sizeof-expression)

}  // namespace
}  // namespace flex::cupti

#endif
