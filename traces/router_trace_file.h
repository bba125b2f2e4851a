#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "traces/line_reader.h"
#include "traces/sparse_counts.h"

namespace flex {

class JsonObject;

/// Which layer a line is of: its fields `block` and `layer`.
struct RouterLayerName {
  std::string block;
  std::int64_t layer = 0;

  friend bool operator==(const RouterLayerName&, const RouterLayerName&) = default;
};
[[nodiscard]] std::string to_string(const RouterLayerName& name);

/// One line: what one layer's router did with the tokens of one rank.
struct RouterPass {
  std::int64_t step = 0;
  std::int64_t rank = 0;
  RouterLayerName layer;
  std::int64_t num_tokens = 0;
  std::int64_t top_k = 0;
  std::vector<ExpertCount> counts;  ///< in the order of experts, without zeros
  std::int64_t line = 0;
};

/// One rank's file of a Megatron-Core router trace, step by step.
class RouterTraceFile {
 public:
  /// Unpacks a file whose name ends in .gz. Reads the first line.
  /// @throws FileError; InputError naming file, line and field, as every call.
  RouterTraceFile(const std::filesystem::path& path, std::int64_t num_experts);

  [[nodiscard]] std::int64_t rank() const { return *rank_; }
  [[nodiscard]] const std::string& file() const { return lines_.file(); }
  /// All lines of the next step, each of another layer; none at the end.
  [[nodiscard]] std::vector<RouterPass> next_step();

 private:
  [[nodiscard]] std::optional<RouterPass> read_pass();
  [[nodiscard]] std::vector<ExpertCount> read_counts(JsonObject& json, const RouterPass& pass);

  LineReader lines_;
  std::int64_t num_experts_;
  std::vector<std::int32_t> choices_;  // by expert; zero between lines
  std::optional<RouterPass> ahead_;    // the first line of the next step
  std::optional<std::int64_t> rank_;   // of the first line
};

}  // namespace flex
