#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "profiler/cupti_abi.h"

/// Records as CUPTI of CUDA 13.0 lays them out, made by hand.
namespace flex::testing {

using Bytes = std::vector<std::byte>;

inline constexpr std::uint32_t kUnknownKind = 46;  // PCIE: a kind that Flex does not read

/// Size of a whole record of CUDA 13.0. Flex reads its beginning only.
inline std::optional<std::size_t> record_bytes(std::uint32_t kind) {
  switch (kind) {
    case cupti::kConcurrentKernel:
      return 216;
    case cupti::kMemcpy:
      return 96;
    case cupti::kMemset:
      return 88;
    case cupti::kExternalCorrelation:
      return 24;
    case cupti::kOverhead:
      return 56;
    case cupti::kRuntime:
    case cupti::kDriver:
      return 40;
    case kUnknownKind:
      return 72;
    default:
      return std::nullopt;
  }
}

/// The beginning in `fields`, and what lies behind it poisoned.
template <class T>
Bytes forge(const T& fields) {
  Bytes record(*record_bytes(fields.kind), std::byte{0xA5});
  std::memcpy(record.data(), &fields, sizeof(T));
  return record;
}

struct ForgedKernel {
  const char* name = "kernel";
  std::uint32_t correlation = 0;
  std::uint64_t start = 100;
  std::uint64_t end = 200;
  std::uint64_t graph_node = 0;
  std::uint32_t stream = 7;
};

inline Bytes forge_kernel(const ForgedKernel& kernel) {
  cupti::KernelRecord record{.kind = cupti::kConcurrentKernel};
  record.start = kernel.start;
  record.end = kernel.end;
  record.device_id = 0;
  record.stream_id = kernel.stream;
  record.correlation_id = kernel.correlation;
  record.name = kernel.name;
  record.graph_node_id = kernel.graph_node;
  return forge(record);
}

inline Bytes forge_copy(std::uint32_t kind, std::uint8_t copy_kind, std::uint32_t correlation,
                        std::uint64_t start, std::uint64_t end, std::uint64_t bytes) {
  cupti::CopyRecord record{.kind = kind, .copy_kind = copy_kind};
  record.bytes = bytes;
  record.start = start;
  record.end = end;
  record.stream_id = 7;
  record.correlation_id = correlation;
  return forge(record);
}

inline Bytes forge_correlation(std::uint32_t correlation, std::uint64_t id,
                               std::uint32_t external_kind = cupti::kExternalCustom0) {
  return forge(cupti::ExternalCorrelationRecord{.kind = cupti::kExternalCorrelation,
                                                .external_kind = external_kind,
                                                .external_id = id,
                                                .correlation_id = correlation});
}

inline Bytes forge_overhead(std::uint32_t overhead_kind, std::uint64_t start, std::uint64_t end) {
  cupti::OverheadRecord record{.kind = cupti::kOverhead, .overhead_kind = overhead_kind};
  record.start = start;
  record.end = end;
  return forge(record);
}

inline Bytes forge_bare(std::uint32_t kind) { return forge(cupti::Record{.kind = kind}); }

}  // namespace flex::testing
