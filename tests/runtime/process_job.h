#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace flex::testing {

/// Processes forked from a test, each of which does something and says one text. The test has no threads when
/// it forks.
class ProcessJob {
 public:
  ProcessJob() = default;
  ~ProcessJob() {
    for (const Process& process : processes_) {
      kill(process.id, SIGKILL);
      waitpid(process.id, nullptr, 0);
    }
  }
  ProcessJob(const ProcessJob&) = delete;
  ProcessJob& operator=(const ProcessJob&) = delete;

  /// Its text is what `body` returns, or the message of what it throws.
  void start(const std::function<std::string()>& body) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t id = fork();
    ASSERT_GE(id, 0);
    if (id == 0) {
      close(ends[0]);
      std::string text;
      try {
        text = body();
      } catch (const std::exception& error) {
        text = error.what();
      }
      const ssize_t written = write(ends[1], text.data(), text.size());
      _exit(written == std::ssize(text) ? 0 : 1);
    }
    close(ends[1]);
    processes_.push_back({id, FileDescriptor(ends[0])});
  }

  void signal(std::size_t process, int number) { kill(processes_[process].id, number); }

  /// The text of one process; `(still running)` if it has not ended within `limit`.
  [[nodiscard]] std::string text(std::size_t process, std::chrono::milliseconds limit) {
    const int descriptor = processes_[process].said.get();
    const auto until = std::chrono::steady_clock::now() + limit;
    std::string text;
    for (;;) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      pollfd wait{.fd = descriptor, .events = POLLIN, .revents = 0};
      if (left.count() <= 0 || poll(&wait, 1, static_cast<int>(left.count())) <= 0) return "(still running)";
      char buffer[4096];
      const ssize_t count = read(descriptor, buffer, sizeof(buffer));
      if (count <= 0) return text;
      text.append(buffer, static_cast<std::size_t>(count));
    }
  }

 private:
  struct Process {
    pid_t id;
    FileDescriptor said;
  };
  std::vector<Process> processes_;
};

}  // namespace flex::testing
