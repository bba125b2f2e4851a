#include "models/checkpoint/stored_tensor.h"

#include <algorithm>
#include <cstring>

#include "base/require.h"
#include "kernels/host_element.h"

namespace flex {
namespace {

// Rounds through a small buffer: files may hold elements at any address.
void convert(std::span<const std::byte> bytes, DType from, TensorView to, std::int64_t to_begin) {
  constexpr std::int64_t kBlock = 4096;
  Tensor block(from, {kBlock});
  const std::int64_t size = size_bytes(from);
  const std::int64_t count = std::ssize(bytes) / size;
  for (std::int64_t first = 0; first < count; first += kBlock) {
    const std::int64_t here = std::min(kBlock, count - first);
    std::memcpy(block.as<char>(), bytes.data() + first * size, static_cast<std::size_t>(here * size));
    for (std::int64_t i = 0; i < here; ++i)
      set_host_element(to, to_begin + first + i, host_element(block, i));
  }
}

}  // namespace

std::int64_t StoredTensor::num_elements() const {
  std::int64_t bytes = 0;
  for (const auto& piece : pieces) bytes += std::ssize(piece);
  return bytes / element_bytes(dtype);
}

StoredTensor stored_tensor(const SafetensorsTensor& tensor) {
  return {.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .pieces = {tensor.bytes}};
}

std::optional<DType> floating_dtype(SafetensorsDType dtype) {
  switch (dtype) {
    case SafetensorsDType::kF64:
      return DType::kF64;
    case SafetensorsDType::kF32:
      return DType::kF32;
    case SafetensorsDType::kF16:
      return DType::kF16;
    case SafetensorsDType::kBF16:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

SafetensorsDType safetensors_dtype(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return SafetensorsDType::kF64;
    case DType::kF32:
      return SafetensorsDType::kF32;
    case DType::kF16:
      return SafetensorsDType::kF16;
    case DType::kBF16:
      return SafetensorsDType::kBF16;
    case DType::kI64:
      return SafetensorsDType::kI64;
    case DType::kI32:
      return SafetensorsDType::kI32;
    case DType::kU8:
      break;
  }
  return SafetensorsDType::kU8;
}

std::vector<std::int64_t> extents_of(const Shape& shape) {
  std::vector<std::int64_t> extents;
  for (int axis = 0; axis < shape.rank(); ++axis) extents.push_back(shape[axis]);
  return extents;
}

void read_elements(const StoredTensor& tensor, std::int64_t begin, std::int64_t count, TensorView to,
                   std::int64_t to_begin) {
  const std::optional<DType> from = floating_dtype(tensor.dtype);
  require(from.has_value(), "tensor {} holds {}, not real numbers", tensor.name, name_of(tensor.dtype));
  const std::int64_t size = size_bytes(*from);
  std::int64_t piece_begin = 0;
  for (const auto& piece : tensor.pieces) {
    const std::int64_t piece_count = std::ssize(piece) / size;
    const std::int64_t first = std::max(begin, piece_begin);
    const std::int64_t last = std::min(begin + count, piece_begin + piece_count);
    if (first < last) {
      const auto bytes = piece.subspan(static_cast<std::size_t>((first - piece_begin) * size),
                                       static_cast<std::size_t>((last - first) * size));
      const std::int64_t place = to_begin + first - begin;
      if (*from == to.dtype) {
        std::memcpy(to.as<char>() + place * size, bytes.data(), bytes.size());
      } else {
        convert(bytes, *from, to, place);
      }
    }
    piece_begin += piece_count;
  }
}

Tensor read_part(const StoredTensor& tensor, const ModelParameter& parameter, DType dtype) {
  Tensor part = Tensor::zeros(dtype, parameter.value.shape);
  for (const ShardRun& run : runs_of(parameter)) read_elements(tensor, run.whole, run.count, part, run.local);
  return part;
}

std::vector<ShardRun> runs_of(const ModelParameter& parameter) {
  if (parameter.held_by_layer != nullptr) return runs_of(parameter.held_by_layer->shard);
  return {{.count = parameter.spec.num_elements()}};
}

}  // namespace flex
