#include "runtime/control_connection.h"

#include <algorithm>

#include "runtime/tcp_socket.h"

namespace flex {

std::chrono::milliseconds silence_limit(std::chrono::milliseconds deadline) {
  using std::chrono::milliseconds;
  return std::clamp<milliseconds>(deadline / 2, milliseconds(1000), milliseconds(10'000));
}

std::chrono::milliseconds beat_interval(std::chrono::milliseconds deadline) {
  constexpr int kBeatsInTheLimit = 10;
  return silence_limit(deadline) / kBeatsInTheLimit;
}

ControlConnection::ControlConnection(FileDescriptor socket, SteadyTime now)
    : socket_(std::move(socket)), peer_(peer_text(socket_)), last_heard_(now) {
  frames_.limit(kMostHelloBytes);
}

bool ControlConnection::receive(SteadyTime now) {
  std::string bytes;
  const bool open = read_some(socket_, &bytes);
  if (!bytes.empty()) last_heard_ = now;
  frames_.append(bytes);
  return open;
}

bool ControlConnection::flush() {
  while (!flushed()) {
    const std::int64_t count = write_some(socket_, std::string_view(outgoing_).substr(sent_));
    if (count < 0) return false;
    if (count == 0) return true;
    sent_ += static_cast<std::size_t>(count);
  }
  outgoing_.clear();
  sent_ = 0;
  return true;
}

}  // namespace flex
