#include "cli/memory_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/table.h"

namespace flex::cli {
namespace {

using Measured = std::optional<TrainingMemory>;

std::string gib(const Measured& memory) {
  return memory ? fmt::format("{:.2f}", static_cast<double>(memory->peak_bytes) / kBytesPerGiB)
                : "out of memory";
}

std::string ms(const Measured& memory, double TrainingMemory::*us) {
  return memory ? fmt::format("{:.3f}", (*memory).*us * 1e-3) : "";
}

// Null where it did not fit.
nlohmann::ordered_json memory_json(const Measured& memory) {
  if (!memory) return nullptr;
  return {{"peak_bytes", memory->peak_bytes},
          {"forward_us", memory->forward_us},
          {"training_us", memory->training_us}};
}

nlohmann::ordered_json suite_json(const MemorySuiteResult& result) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const MemorySuiteRow& row : result.rows) {
    rows.push_back({{"tokens", row.tokens},
                    {"flex", memory_json(row.flex)},
                    {"einsum", memory_json(row.einsum)},
                    {"tutel_published_GiB", row.tutel_GiB},
                    {"fairseq_published_GiB", row.fairseq_GiB}});
    if (row.flex && row.einsum) rows.back()["output_difference"] = row.output_difference;
  }
  const LayerTraining& layer = result.layer;
  return {{"suite", kMemorySuite},
          {"dtype", name(layer.config.dtype)},
          {"tf32", layer.allow_tf32},
          {"model_dim", layer.config.model_dim},
          {"hidden_dim", layer.config.hidden_dim},
          {"experts", layer.config.num_experts},
          {"top_k", layer.top_k},
          {"capacity_factor", layer.capacity_factor},
          {"rows", rows}};
}

}  // namespace

void print_memory_suite(const MemorySuiteResult& result, bool json) {
  if (json) {
    fmt::print("{}\n", suite_json(result).dump(2));
    return;
  }
  Table table({{"T"},
               {"Flex GiB"},
               {"Tutel GiB"},
               {"einsum GiB"},
               {"Fairseq GiB"},
               {"Flex forward ms"},
               {"training ms"},
               {"einsum forward ms"},
               {"training ms"}});
  for (const MemorySuiteRow& row : result.rows) {
    table.add({fmt::format("{}", row.tokens), gib(row.flex), fmt::format("{:.1f}", row.tutel_GiB),
               gib(row.einsum), fmt::format("{:.1f}", row.fairseq_GiB),
               ms(row.flex, &TrainingMemory::forward_us), ms(row.flex, &TrainingMemory::training_us),
               ms(row.einsum, &TrainingMemory::forward_us), ms(row.einsum, &TrainingMemory::training_us)});
  }
  const LayerTraining& layer = result.layer;
  fmt::print(
      "peak memory of training one layer: M = {}, H = {}, E = {}, k = {}, f = {}, {}{}\n"
      "Tutel and Fairseq as published; matrix products by the library's first suggestion\n\n{}",
      layer.config.model_dim, layer.config.hidden_dim, layer.config.num_experts, layer.top_k,
      layer.capacity_factor, name(layer.config.dtype), layer.allow_tf32 ? " (TF32)" : "", table.text());
}

}  // namespace flex::cli
