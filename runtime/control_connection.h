#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "base/file_descriptor.h"
#include "runtime/control_meetings.h"
#include "runtime/control_wire.h"

namespace flex {

/// Nothing heard of a process for so long, and it counts as stopped: half the deadline, so that this is known
/// before others have waited for it that long, between 1 s (a loaded machine is no stopped one) and 10 s.
[[nodiscard]] std::chrono::milliseconds silence_limit(std::chrono::milliseconds deadline);
/// Both sides say so often that they are alive.
[[nodiscard]] std::chrono::milliseconds beat_interval(std::chrono::milliseconds deadline);

/// The hub's end of one connection. Never blocks: what the peer does not take is queued.
class ControlConnection {
 public:
  ControlConnection(FileDescriptor socket, SteadyTime now);

  [[nodiscard]] int descriptor() const { return socket_.get(); }
  [[nodiscard]] const std::string& peer() const { return peer_; }
  /// Reads what is there. @return false at the end of the stream.
  [[nodiscard]] bool receive(SteadyTime now);
  [[nodiscard]] FrameReader& frames() { return frames_; }
  void send(FrameKind kind, std::string_view payload) { outgoing_.append(frame_bytes(kind, payload)); }
  /// @return false if the connection is broken.
  [[nodiscard]] bool flush();
  [[nodiscard]] bool flushed() const { return sent_ == outgoing_.size(); }
  void forgive_silence(SteadyTime now) { last_heard_ = now; }

  int rank = -1;         ///< -1 before it has said who it is
  bool left = false;     ///< it has ended in good order
  bool lost = false;     ///< it has ended or fallen silent
  bool closing = false;  ///< to be closed once it is flushed
  std::string does;      ///< what it said last that it does
  [[nodiscard]] SteadyTime last_heard() const { return last_heard_; }

 private:
  FileDescriptor socket_;
  std::string peer_;
  FrameReader frames_;
  std::string outgoing_;
  std::size_t sent_ = 0;
  SteadyTime last_heard_;
};

}  // namespace flex
