#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "runtime/communicator.h"

namespace flex::cli {

/// The ranks that a command runs on, with the same names in every subcommand.
struct RankOptions {
  int ranks = 2;
  int ranks_per_node = 0;
  std::string launcher = "threads";
  std::string device = "cpu";
  bool tf32 = false;
  double deadline_s = 60;

  /// Runs `body` on every rank: threads of this process, or this process as one rank of an MPI or NCCL job.
  /// Where `body` throws in such a job, all of it ends here.
  /// @param command its name, for errors. @throws InputError, and what `body` throws.
  void run(const std::string& command, const std::function<void(Communicator&)>& body) const;
  /// The device of this process's ranks. In an NCCL job `cuda` is the GPU of this rank of its node.
  /// @throws InputError.
  [[nodiscard]] Device parsed_device() const;
  /// @throws InputError for a device that cannot be used, or one that does not compute in `dtype`.
  [[nodiscard]] Device usable_device(DType dtype) const;
};

void add_rank_options(CLI::App& command, RankOptions& options);

}  // namespace flex::cli
