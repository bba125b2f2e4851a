#pragma once

#include <cstdint>

#include "costmodel/cluster.h"
#include "costmodel/cost_parameters.h"

namespace flex {

/// One class of links as one rank sees it while all ranks communicate: its share of what it shares with
/// others (the device's link with the ranks of the device, a NIC with those of the NIC).
struct LinkRates {
  double bytes_per_us = 0;  ///< in one direction, both at a time
  double message_us = 0;
  double collective_us = 0;
  double inverse_contention_peers = 0;  ///< 0: no contention
  double contention_exponent = 1;

  /// Factor on the time of bytes of a phase in which a rank has this many peers on this class of links:
  /// 1 + (peers / contention_peers)^exponent. It stands for what switches, queues and caches of NICs lose to
  /// many flows at a time. @source a fit, docs/validation.md
  [[nodiscard]] double contention(double peers) const;
};

/// Both classes of links of a cluster.
struct NetworkRates {
  int ranks_per_node = 1;
  LinkRates intra_node;
  LinkRates inter_node;
};
[[nodiscard]] NetworkRates network_rates(const Cluster& cluster, const CostParameters& parameters);

/// All functions below give microseconds of one rank, without the phase's collective_us.

/// `peers` messages of `bytes_per_peer` bytes, one way: peers * (message_us + bytes / rate * contention).
/// Messages are issued one after the other and share the link. Not modelled: one flow that does not fill the
/// link; latency that bytes of other messages hide.
/// @source Hockney's latency-bandwidth model
[[nodiscard]] double messages_us(double peers, double bytes_per_peer, const LinkRates& link);

/// One phase over all `world` ranks: both classes of links at a time, so the slower one counts.
[[nodiscard]] double linear_exchange_us(double world, double bytes_per_peer, const NetworkRates& network);

/// All-gather, or reduce-scatter, over a ring of `group` consecutive ranks, each of which holds
/// `bytes_per_rank`: group - 1 steps. Between nodes bytes of a node's members leave through all its NICs.
/// Not modelled: the additions of a reduce-scatter.
/// @source ring all-gather: Thakur et al., "Optimization of Collective Communication Operations in MPICH",
/// 2005
[[nodiscard]] double ring_gather_us(double group, double bytes_per_rank, const NetworkRates& network);

/// All-reduce of `bytes` held by each of `world` ranks: two ring steps' bytes inside the node and between
/// nodes at a time, and the latency of a tree up and down.
/// @source as ring_gather_us(); double trees: Sanders et al., "Two-tree algorithms", 2009
[[nodiscard]] double all_reduce_us(double world, double bytes, const NetworkRates& network);

/// Agreement of `world` hosts on a few words: a tree up and down.
[[nodiscard]] double host_agreement_us(double world, const NetworkRates& network);

}  // namespace flex
