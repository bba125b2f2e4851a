#include "models/checkpoint/convert_parameters.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/require.h"
#include "base/safetensors_stream.h"
#include "models/config_json.h"

namespace flex {
namespace {

namespace fs = std::filesystem;

/// A tensor that is to be written: pieces, one behind the other, and zeros.
struct Output {
  SafetensorsEntry entry;
  std::vector<std::span<const std::byte>> pieces;
  std::int64_t zero_bytes = 0;  // behind them
};

void write_file(const fs::path& path, const std::vector<Output>& outputs,
                const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> entries;
  entries.reserve(outputs.size());
  for (const Output& output : outputs) entries.push_back(output.entry);
  SafetensorsStream stream(path, entries, metadata);
  for (const Output& output : outputs) {
    for (const auto& piece : output.pieces) stream.write(piece);
    stream.write(std::vector<std::byte>(static_cast<std::size_t>(output.zero_bytes)));
  }
  stream.commit();
}

// Elements [begin, end) of a tensor as it lies in its files.
std::vector<std::span<const std::byte>> slice(const StoredTensor& tensor, std::int64_t begin,
                                              std::int64_t end) {
  const std::int64_t size = element_bytes(tensor.dtype);
  std::vector<std::span<const std::byte>> slices;
  std::int64_t piece_begin = 0;
  for (const auto& piece : tensor.pieces) {
    const std::int64_t piece_end = piece_begin + std::ssize(piece) / size;
    const std::int64_t first = std::max(begin, piece_begin);
    const std::int64_t last = std::min(end, piece_end);
    if (first < last)
      slices.push_back(piece.subspan(static_cast<std::size_t>((first - piece_begin) * size),
                                     static_cast<std::size_t>((last - first) * size)));
    piece_begin = piece_end;
  }
  return slices;
}

// What `rank` of `ranks` holds of an expert's tensor (experts, rows) or (experts, rows, columns).
Output part_of_rank(const StoredTensor& tensor, const std::string& name, int ranks, int rank) {
  const std::int64_t experts = tensor.shape.empty() ? 0 : tensor.shape[0];
  require(tensor.shape.size() >= 2 && experts > 0, "tensor {} is [{}]; experts have at least two extents",
          tensor.name, fmt::join(tensor.shape, ", "));
  require(experts % ranks == 0 || ranks % experts == 0,
          "{} experts do not spread over {} ranks: one must be a multiple of the other", experts, ranks);
  const std::int64_t sharing = std::max<std::int64_t>(1, ranks / experts);
  const std::int64_t local = std::max<std::int64_t>(1, experts / ranks);
  const std::int64_t rows = tensor.shape[1];
  const bool is_padded = tensor.name.ends_with("fc2_bias");
  require(rows % sharing == 0 || is_padded, "tensor {}: its {} rows do not divide over {} ranks of an expert",
          tensor.name, rows, sharing);
  const std::int64_t slice_rows = (rows + sharing - 1) / sharing;
  const std::int64_t inner = tensor.num_elements() / (experts * rows);
  const std::int64_t expert = sharing > 1 ? rank / sharing : rank * local;
  const std::int64_t first = std::min(rows, rank % sharing * slice_rows);
  const std::int64_t last = sharing > 1 ? std::min(rows, first + slice_rows) : rows * local;
  Output output{.entry = {.name = name, .dtype = tensor.dtype, .shape = tensor.shape}};
  output.entry.shape[0] = local;
  output.entry.shape[1] = slice_rows;
  output.pieces = slice(tensor, (expert * rows + first) * inner, (expert * rows + last) * inner);
  if (sharing > 1) output.zero_bytes = (slice_rows - (last - first)) * inner * element_bytes(tensor.dtype);
  return output;
}

ParameterNaming naming_for(NameConvention convention, BlockKind block) {
  if (convention == NameConvention::kTimm) return kTimmNaming;
  return convention == NameConvention::kSwinMoe ? kSwinMoeNaming : naming_of(block);
}

// Larger elements first, so that all are aligned.
void sort_by_alignment(std::vector<Output>& outputs) {
  std::ranges::sort(outputs, {}, [](const Output& output) {
    return std::pair(-element_bytes(output.entry.dtype), std::string_view(output.entry.name));
  });
}

/// The tensors of a conversion, under their new names.
struct Renamed {
  std::vector<std::pair<std::string, const StoredTensor*>> tensors;
  std::map<std::string, std::int64_t> num_experts;  // of each MoE layer, by its buffer's name
};

Renamed rename_all(const ParameterFiles& files, const ParameterNaming& to) {
  const ParameterNaming from = naming_of(files.names());
  Renamed result;
  for (const StoredTensor& tensor : files.tensors()) {
    if (is_buffer(tensor.name)) continue;
    const std::string name = renamed(tensor.name, from, to);
    if (is_of_experts(name) && !tensor.shape.empty())
      result.num_experts[*moe_prefix(name) + std::string(kNumExpertsBuffer)] = tensor.shape[0];
    result.tensors.emplace_back(name, &tensor);
  }
  const bool is_model = std::ranges::any_of(
      result.tensors, [](const auto& tensor) { return tensor.first.starts_with("layers.0.blocks.0."); });
  require(is_model, "{}: holds no Swin model: there is no layers.0.blocks.0", files.path().string());
  return result;
}

}  // namespace

std::optional<NameConvention> parse_name_convention(std::string_view text) {
  if (text == "flex") return NameConvention::kFlex;
  if (text == "timm") return NameConvention::kTimm;
  if (text == "swin_moe") return NameConvention::kSwinMoe;
  return std::nullopt;
}

std::vector<fs::path> convert_parameters(const ParameterFiles& files, const fs::path& output,
                                         NameConvention convention, int num_ranks) {
  constexpr std::string_view kSuffix = ".safetensors";
  const Renamed all = rename_all(files, naming_for(convention, block_of(files.names())));
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (const auto model = files.model()) metadata["model"] = to_json(*model).dump();
  require(num_ranks == 0 || !all.num_experts.empty(), "{}: has no experts to spread over ranks",
          files.path().string());
  std::vector<Output> shared;
  std::vector<std::vector<Output>> ranks(static_cast<std::size_t>(num_ranks));
  for (const auto& [name, tensor] : all.tensors) {
    if (num_ranks == 0 || !is_of_experts(name)) {
      shared.push_back({{name, tensor->dtype, tensor->shape}, tensor->pieces});
      continue;
    }
    for (int rank = 0; rank < num_ranks; ++rank)
      ranks[static_cast<std::size_t>(rank)].push_back(part_of_rank(*tensor, name, num_ranks, rank));
  }
  if (convention == NameConvention::kSwinMoe) {
    for (const auto& [name, count] : all.num_experts)
      shared.push_back({{name, SafetensorsDType::kI64, {}}, {std::as_bytes(std::span(&count, 1))}});
  }
  std::vector<fs::path> written;
  const std::string stem = output.string().ends_with(kSuffix)
                               ? output.string().substr(0, output.string().size() - kSuffix.size())
                               : output.string();
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    sort_by_alignment(ranks[rank]);
    written.emplace_back(fmt::format("{}.rank{}{}", stem, rank, kSuffix));
    write_file(written.back(), ranks[rank], {{"format", "pt"}});
  }
  sort_by_alignment(shared);
  written.push_back(output);
  write_file(output, shared, metadata);
  return written;
}

}  // namespace flex
