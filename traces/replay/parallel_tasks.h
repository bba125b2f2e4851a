#pragma once

#include <cstddef>
#include <functional>

namespace flex {

/// Runs task(index, worker) for each index below `num_tasks`, in `num_workers` threads (workers are numbered
/// from 0; 1 runs in the calling one), each taking the next index when it is free. Returns when all are done.
/// What a task throws ends the taking of new ones, and that of the smallest index that threw is thrown again.
void run_tasks(std::size_t num_tasks, int num_workers,
               const std::function<void(std::size_t index, int worker)>& task);

}  // namespace flex
