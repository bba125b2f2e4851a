#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>

#include "traces/byte_sink.h"

/// A disk that tests can stop, for what writes traces.
namespace flex::testing {

/// What the writer's thread and a test share.
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_open = true;
  bool is_waited_at = false;
  std::string text;

  void set_open(bool open) {
    const std::lock_guard lock(mutex);
    is_open = open;
    changed.notify_all();
  }
  void await_writer() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return is_waited_at; });
  }
  [[nodiscard]] std::string content() {
    const std::lock_guard lock(mutex);
    return text;
  }
};

/// A disk that takes nothing while its gate is closed.
class GatedSink final : public ByteSink {
 public:
  explicit GatedSink(Gate& gate) : gate_(gate) {}
  void write(std::string_view bytes) override {
    if (bytes.empty()) return;
    std::unique_lock lock(gate_.mutex);
    gate_.is_waited_at = !gate_.is_open;
    gate_.changed.notify_all();
    gate_.changed.wait(lock, [&] { return gate_.is_open; });
    gate_.text += bytes;
  }
  void flush() override {}
  void close() override {}

 private:
  Gate& gate_;
};

}  // namespace flex::testing
