#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "traces/router_trace_file.h"
#include "traces/routing_trace.h"

/// Router traces of Megatron-Core: a JSON Lines file for each rank, a line for each (step, layer) with the
/// fields step, block, layer, rank, num_tokens, topk and top_indices (the experts of every token). Other
/// fields are ignored. docs/trace-format.md says how they become a trace.
namespace flex {

/// What router traces do not say.
struct MegatronImportOptions {
  TraceLayer layer;  ///< its ranks, tokens and top_k come from the files
  std::string model;
  std::string hardware;
  int ranks_per_node = 1;
};

/// The files of a folder whose names end in .jsonl or .jsonl.gz, sorted; a file is itself.
/// @throws InputError for a folder without such files, or a path that is not there.
[[nodiscard]] std::vector<std::filesystem::path> router_trace_files(const std::filesystem::path& path);

/// Reads the files of all ranks side by side, one step at a time, in any order of files. The layers of a
/// trace are those of rank 0's first step, in its order; later steps have the same.
class MegatronImport {
 public:
  /// @throws FileError; InputError naming file, line and field: ranks that are missing or there twice, other
  /// layers, topk or steps than those of rank 0, experts that are not there.
  MegatronImport(std::span<const std::filesystem::path> files, const MegatronImportOptions& options);

  [[nodiscard]] const TraceHeader& header() const { return header_; }
  /// The next forward record; false at the end. @throws as the constructor.
  [[nodiscard]] bool next(TraceRecord& record);

 private:
  void require_all_ranks() const;
  void read_step();
  void check_pass(const RouterTraceFile& file, const RouterPass& pass, std::size_t layer) const;
  void sort_step(const RouterTraceFile& file, std::vector<RouterPass> passes, std::size_t rank);

  std::vector<std::unique_ptr<RouterTraceFile>> files_;  // by rank
  std::vector<RouterLayerName> names_;                   // by layer
  std::vector<std::vector<RouterPass>> step_;            // (layers, ranks) of one step; empty at the end
  std::size_t next_layer_ = 0;
  TraceHeader header_;
};

}  // namespace flex
