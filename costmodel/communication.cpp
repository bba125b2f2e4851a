#include "costmodel/communication.h"

#include <algorithm>
#include <cmath>

#include "base/units.h"

namespace flex {
namespace {

LinkRates link_rates(double share_GBps, const LinkParameters& parameters) {
  return {.bytes_per_us = share_GBps * kBytesPerUsPerGBps * parameters.bandwidth_efficiency,
          .message_us = parameters.message_us,
          .collective_us = parameters.collective_us,
          .inverse_contention_peers = 1 / parameters.contention_peers,
          .contention_exponent = parameters.contention_exponent};
}

/// Members of a group of consecutive ranks in its fullest node, and the nodes that it covers.
struct Spread {
  double members, nodes;

  Spread(double group, const NetworkRates& network)
      : members(std::min<double>(group, network.ranks_per_node)), nodes(std::ceil(group / members)) {}
};

double tree_latency_us(const Spread& spread, const NetworkRates& network) {
  return 2 * (std::log2(spread.members) * network.intra_node.message_us +
              std::log2(spread.nodes) * network.inter_node.message_us);
}

// Nothing takes no time, on a link that is not there too.
double bytes_us(double bytes, const LinkRates& link) { return bytes == 0 ? 0 : bytes / link.bytes_per_us; }

}  // namespace

double LinkRates::contention(double peers) const {
  if (inverse_contention_peers == 0 || peers <= 0) return 1;
  return 1 + std::pow(peers * inverse_contention_peers, contention_exponent);
}

NetworkRates network_rates(const Cluster& cluster, const CostParameters& parameters) {
  const double device_GBps = cluster.intra_node.bandwidth_GBps / cluster.ranks_per_device;
  const double nic_GBps = cluster.nics_per_node > 0 ? cluster.inter_node.bandwidth_GBps *
                                                          cluster.nics_per_node / cluster.ranks_per_node
                                                    : 0;
  return {.ranks_per_node = cluster.ranks_per_node,
          .intra_node = link_rates(device_GBps, parameters.intra_node),
          .inter_node = link_rates(nic_GBps, parameters.inter_node)};
}

double messages_us(double peers, double bytes_per_peer, const LinkRates& link) {
  if (peers <= 0) return 0;
  return peers * link.message_us + bytes_us(peers * bytes_per_peer, link) * link.contention(peers);
}

double linear_exchange_us(double world, double bytes_per_peer, const NetworkRates& network) {
  const double inside = std::min<double>(world, network.ranks_per_node);
  return std::max(messages_us(inside - 1, bytes_per_peer, network.intra_node),
                  messages_us(world - inside, bytes_per_peer, network.inter_node));
}

double ring_gather_us(double group, double bytes_per_rank, const NetworkRates& network) {
  const Spread spread(group, network);
  const double latency_us = (group - spread.nodes) * network.intra_node.message_us +
                            (spread.nodes - 1) * network.inter_node.message_us;
  const double inside_us =
      spread.members > 1 ? bytes_us((group - 1) * bytes_per_rank, network.intra_node) : 0;
  const double outside = (group - spread.members) / spread.members * bytes_per_rank;
  return latency_us + std::max(inside_us, bytes_us(outside, network.inter_node));
}

double all_reduce_us(double world, double bytes, const NetworkRates& network) {
  const Spread spread(world, network);
  const double inside = 2 * bytes * (spread.members - 1) / spread.members;
  const double outside = 2 * bytes * (spread.nodes - 1) / spread.nodes / spread.members;
  return tree_latency_us(spread, network) +
         std::max(bytes_us(inside, network.intra_node), bytes_us(outside, network.inter_node));
}

double host_agreement_us(double world, const NetworkRates& network) {
  return tree_latency_us(Spread(world, network), network);
}

}  // namespace flex
