#include "runtime/nccl_settings.h"

#include "base/build_facts.h"

namespace flex {

std::vector<Setting> nccl_settings(const std::string& transport, int ranks_per_node,
                                   const EnvironmentLookup& lookup) {
  std::vector<Setting> settings = {{"Flex", build_facts().version},
                                   {"the communication library", transport},
                                   {"ranks per node", std::to_string(ranks_per_node)}};
  for (const char* name : {"NCCL_ALGO", "NCCL_PROTO", "NCCL_BUFFSIZE", "NCCL_NTHREADS", "NCCL_MIN_NCHANNELS",
                           "NCCL_MAX_NCHANNELS", "NCCL_MIN_CTAS", "NCCL_MAX_CTAS", "NCCL_NET",
                           "NCCL_NET_PLUGIN", "NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE", "NCCL_IB_DISABLE",
                           "NCCL_CROSS_NIC", "NCCL_COMM_ID", "NCCL_COMM_BLOCKING", "FLEX_NCCL_CHECK"}) {
    settings.push_back({name, lookup(name).value_or("(not set)")});
  }
  return settings;
}

}  // namespace flex
