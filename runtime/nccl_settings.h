#pragma once

#include <string>
#include <vector>

#include "runtime/control_messages.h"
#include "runtime/launch_environment.h"

namespace flex {

/// What all ranks of an NCCL job must have alike: the versions of Flex and of `transport` (`NCCL 2.28.9`),
/// and the variables of NCCL that change what goes over the wire. Those that may differ by machine, such as
/// NCCL_SOCKET_IFNAME, NCCL_IB_HCA and NCCL_HOSTID, are left out.
[[nodiscard]] std::vector<Setting> nccl_settings(const std::string& transport, int ranks_per_node,
                                                 const EnvironmentLookup& lookup);

}  // namespace flex
