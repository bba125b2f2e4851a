#include "costmodel/stream_use.h"

namespace flex {
namespace {

IdleCause cause_of(StreamKind awaited) {
  switch (awaited) {
    case StreamKind::kHost:
      return IdleCause::kHost;
    case StreamKind::kCompute:
      return IdleCause::kCompute;
    case StreamKind::kCommunication:
      return IdleCause::kCommunication;
  }
  return IdleCause::kEnd;
}

// The stream whose operation came last of those that `operation` waits for, or the host that had still to
// queue it.
StreamKind last_awaited(const SimulatedOperation& operation, const OperationTimes& own,
                        std::span<const OperationTimes> times) {
  int last = 0;
  double last_us = -1;
  for (int stream = 0; stream < kNumStreams; ++stream) {
    const std::int32_t index = operation.after[static_cast<std::size_t>(stream)];
    if (index < 0 || times[static_cast<std::size_t>(index)].end_us <= last_us) continue;
    last_us = times[static_cast<std::size_t>(index)].end_us;
    last = stream;
  }
  if (own.issued_us > last_us) return StreamKind::kHost;
  return static_cast<StreamKind>(last);
}

}  // namespace

std::string_view name(IdleCause cause) {
  switch (cause) {
    case IdleCause::kHost:
      return "host";
    case IdleCause::kCompute:
      return "compute";
    case IdleCause::kCommunication:
      return "communication";
    case IdleCause::kPeer:
      return "peer";
    case IdleCause::kEnd:
      return "end";
  }
  return "?";
}

RankUse stream_use(const Simulation& simulation, int rank) {
  RankUse use{};
  std::array<double, kNumStreams> free_us{};  // when each stream's last operation ended
  const std::span<const OperationTimes> times = simulation.times_of(rank);
  const auto idle = [&use](std::size_t stream, IdleCause cause) -> double& {
    return use[stream].idle_us[static_cast<std::size_t>(cause)];
  };
  for (std::size_t i = 0; i < times.size(); ++i) {
    const SimulatedOperation& operation = simulation.operations[i];
    const auto stream = static_cast<std::size_t>(operation.operation.stream);
    if (times[i].ready_us > free_us[stream]) {
      idle(stream, cause_of(last_awaited(operation, times[i], times))) += times[i].ready_us - free_us[stream];
    }
    idle(stream, IdleCause::kPeer) += times[i].begin_us - times[i].ready_us;
    use[stream].busy_us += times[i].end_us - times[i].begin_us;
    free_us[stream] = times[i].end_us;
  }
  for (std::size_t stream = 0; stream < kNumStreams; ++stream) {
    idle(stream, IdleCause::kEnd) += simulation.total_us - free_us[stream];
  }
  return use;
}

}  // namespace flex
