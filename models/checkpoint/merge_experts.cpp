#include "models/checkpoint/merge_experts.h"

#include <algorithm>

#include "base/require.h"
#include "models/checkpoint/parameter_names.h"

namespace flex {
namespace {

const StoredTensor* find(const std::vector<StoredTensor>& tensors, const std::string& name) {
  const auto found = std::ranges::find(tensors, name, &StoredTensor::name);
  return found == tensors.end() ? nullptr : &*found;
}

// Of a gate: (experts, channels), or (projection, experts).
std::int64_t num_experts(const std::vector<StoredTensor>& tensors, const std::string& prefix,
                         const std::filesystem::path& path) {
  for (const char* gate : {"gates.0.", "gate."}) {
    const StoredTensor* linear = find(tensors, prefix + gate + "wg.weight");
    if (linear != nullptr && linear->shape.size() == 2) return linear->shape[0];
    const StoredTensor* cosine = find(tensors, prefix + gate + "sim_matrix");
    if (cosine != nullptr && cosine->shape.size() == 2) return cosine->shape[1];
  }
  fail("{}: has experts of {} without the gate that tells how many there are", path.string(),
       prefix.substr(0, prefix.size() - 1));
}

// Columns of the second bias: those of the weights beside it.
std::int64_t num_columns(const std::vector<StoredTensor>& tensors, const std::string& prefix) {
  const StoredTensor* weights = find(tensors, prefix + "experts.batched_fc2_w");
  return weights == nullptr || weights->shape.empty() ? 0 : weights->shape.back();
}

// Cuts the padding off the last slices of each expert's second bias.
void trim(StoredTensor& tensor, std::int64_t columns, std::int64_t sharing) {
  const std::int64_t size = element_bytes(tensor.dtype);
  for (std::size_t rank = 0; rank < tensor.pieces.size(); ++rank) {
    auto& piece = tensor.pieces[rank];
    const std::int64_t slice = std::ssize(piece) / size;
    const std::int64_t begin = static_cast<std::int64_t>(rank) % sharing * slice;
    piece = piece.first(static_cast<std::size_t>(std::clamp<std::int64_t>(columns - begin, 0, slice) * size));
  }
}

void merge(StoredTensor& tensor, std::int64_t experts, std::int64_t columns,
           const std::filesystem::path& path) {
  const std::int64_t ranks = std::ssize(tensor.pieces);
  require(experts > 0 && (experts % ranks == 0 || ranks % experts == 0),
          "{}: {} experts of {} do not spread over the files of {} ranks", path.string(), experts,
          tensor.name, ranks);
  const bool is_matrix = tensor.name.ends_with("_w");
  const bool is_second_bias = tensor.name.ends_with("fc2_bias");
  if (is_second_bias && ranks > experts) trim(tensor, columns, ranks / experts);
  const std::int64_t elements = tensor.num_elements();
  const std::int64_t inner = is_matrix && !tensor.shape.empty() ? tensor.shape.back() : 1;
  const std::int64_t rows = elements / std::max<std::int64_t>(experts * inner, 1);
  require(rows * experts * inner == elements, "{}: {} elements of tensor {} do not make {} experts",
          path.string(), elements, tensor.name, experts);
  tensor.shape = {experts, rows};
  if (is_matrix) tensor.shape.push_back(inner);
}

}  // namespace

void merge_experts(std::vector<StoredTensor>& tensors, const std::filesystem::path& path) {
  for (StoredTensor& tensor : tensors) {
    if (tensor.pieces.size() < 2) continue;
    const std::string prefix = moe_prefix(tensor.name).value();
    merge(tensor, num_experts(tensors, prefix, path), num_columns(tensors, prefix), path);
  }
}

}  // namespace flex
