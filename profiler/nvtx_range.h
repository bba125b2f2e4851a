#pragma once

#include "profiler/range_name.h"

namespace flex {

/// A range in NVTX's domain `flex`, as long as the object lives, on the thread that made it: Nsight Systems
/// and others show it. Costs a few nanoseconds while no tool listens; nothing in a build without CUDA or
/// NVTX.
class [[maybe_unused]] NvtxRange {
 public:
#ifdef FLEX_HAS_CUDA
  explicit NvtxRange(const RangeName& name) noexcept;
  ~NvtxRange();
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;
#else
  explicit constexpr NvtxRange(const RangeName& /*name*/) noexcept {}
#endif
};

}  // namespace flex
