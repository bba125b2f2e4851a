#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "costmodel/simulation.h"

namespace flex {

/// What a stream that does nothing waits for.
enum class IdleCause : std::uint8_t {
  kHost,           ///< the host, which has not queued the next operation yet
  kCompute,        ///< compute of the same rank
  kCommunication,  ///< communication of the same rank
  kPeer,           ///< another rank of the next operation's group
  kEnd,            ///< nothing: its work is done
};
inline constexpr int kNumIdleCauses = static_cast<int>(IdleCause::kEnd) + 1;
[[nodiscard]] std::string_view name(IdleCause cause);

/// Time of one stream from the start to Simulation::total_us.
struct StreamUse {
  double busy_us = 0;
  std::array<double, kNumIdleCauses> idle_us{};

  [[nodiscard]] double idle(IdleCause cause) const { return idle_us[static_cast<std::size_t>(cause)]; }
};

/// By stream. Where an operation waits for several things, its whole wait counts for the last of them.
using RankUse = std::array<StreamUse, kNumStreams>;
[[nodiscard]] RankUse stream_use(const Simulation& simulation, int rank);

}  // namespace flex
