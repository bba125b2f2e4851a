#include "runtime/executor.h"

#include <algorithm>

namespace flex {

Executor::Executor(Device device) : device_(device), border_(device), communication_(device) {}

Stream& Executor::stream_of(StreamKind kind, Stream& compute) {
  return kind == StreamKind::kCommunication ? communication_ : compute;
}

void Executor::wait_for(const Operation& operation, Stream& compute) {
  for (const std::int16_t index : operation.waits_for()) {
    const Event& event = done_[static_cast<std::size_t>(index)];
    if (operation.stream == StreamKind::kHost) {
      event.wait_blocking();
    } else {
      stream_of(operation.stream, compute).wait(event);
    }
  }
}

void Executor::run(const Schedule& schedule, Stream& compute, OperationRunner& runner) {
  const std::vector<Operation>& operations = schedule.operations;
  while (done_.size() < operations.size()) done_.emplace_back(device_);
  awaited_.assign(operations.size(), 0);
  bool communicates = false;
  for (const Operation& operation : operations) {
    communicates = communicates || operation.stream == StreamKind::kCommunication;
    for (const std::int16_t index : operation.waits_for()) awaited_[static_cast<std::size_t>(index)] = 1;
  }

  if (communicates) {
    compute.record(border_);
    communication_.wait(border_);
  }
  for (std::size_t i = 0; i < operations.size(); ++i) {
    const Operation& operation = operations[i];
    Stream& stream = stream_of(operation.stream, compute);
    wait_for(operation, compute);
    if (observer_ != nullptr) observer_->before(schedule, i, stream);
    runner.run(operation, stream);
    if (observer_ != nullptr) observer_->after(schedule, i, stream);
    if (awaited_[i] != 0) stream.record(done_[i]);
  }
  if (communicates) {
    communication_.record(border_);
    compute.wait(border_);
  }
}

}  // namespace flex
