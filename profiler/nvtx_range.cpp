#include "profiler/nvtx_range.h"

#if __has_include(<nvtx3/nvToolsExt.h>)

#include <nvtx3/nvToolsExt.h>

namespace flex {
namespace {

nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t kDomain = nvtxDomainCreateA("flex");
  return kDomain;
}

}  // namespace

NvtxRange::NvtxRange(const RangeName& name) noexcept {
  nvtxEventAttributes_t attributes{};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name.c_str();
  static_cast<void>(nvtxDomainRangePushEx(domain(), &attributes));
}

NvtxRange::~NvtxRange() { static_cast<void>(nvtxDomainRangePop(domain())); }

}  // namespace flex

#else

namespace flex {

NvtxRange::NvtxRange(const RangeName& /*name*/) noexcept {}
NvtxRange::~NvtxRange() = default;

}  // namespace flex

#endif
