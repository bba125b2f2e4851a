#include "models/checkpoint/gather_parameter.h"

#include <algorithm>
#include <cstring>

#include "kernels/host_element.h"

namespace flex {
namespace {

constexpr int kRoot = 0;

// Over bytes of `buffer`, which is as large as the largest.
TensorView front_of(Tensor& buffer, DType dtype, const Shape& shape) {
  return {buffer.as<char>(), dtype, shape, buffer.device()};
}

void widen(TensorView to, ConstTensorView from) {
  if (to.dtype == from.dtype) {
    std::memcpy(to.data, from.data, static_cast<std::size_t>(from.bytes()));
    return;
  }
  for (std::int64_t i = 0; i < from.num_elements(); ++i) set_host_element(to, i, host_element(from, i));
}

}  // namespace

SafetensorsEntry entry_of(const HeldTensor& tensor) {
  return {.name = tensor.name,
          .dtype = safetensors_dtype(tensor.stored),
          .shape = extents_of(tensor.parameter->spec.shape)};
}

ParameterGatherer::ParameterGatherer(std::span<const HeldTensor> tensors, RankContext& context)
    : context_(context), stream_(context.device()) {
  if (context.rank() != kRoot) return;
  std::int64_t pieces = 0;
  std::int64_t whole = 0;
  for (const HeldTensor& tensor : tensors) {
    const std::int64_t local = tensor.local.bytes();
    if (is_spread(tensor)) {
      pieces = std::max(pieces, context.size() * local);
    } else if (!context.device().is_cpu()) {
      pieces = std::max(pieces, local);
    }
    whole = std::max(whole, tensor.parameter->spec.num_elements() * size_bytes(tensor.stored));
  }
  pieces_ = Tensor(DType::kU8, {pieces}, context.device());
  if (!context.device().is_cpu()) host_pieces_ = Tensor(DType::kU8, {pieces});
  whole_ = Tensor(DType::kU8, {whole});
}

bool ParameterGatherer::is_spread(const HeldTensor& tensor) const {
  return context_.size() > 1 && tensor.parameter->spec.home == ParameterHome::kExperts;
}

void ParameterGatherer::collect_blocking(const HeldTensor& tensor) {
  const auto ranks = static_cast<std::size_t>(context_.size());
  const std::int64_t bytes = tensor.local.bytes();
  std::vector<std::int64_t> send_bytes(ranks);
  send_bytes[kRoot] = bytes;
  const std::vector<std::int64_t> zeros(ranks);
  std::vector<std::int64_t> recv_bytes(ranks);
  std::vector<std::int64_t> offsets(ranks);
  if (context_.rank() == kRoot) {
    for (std::size_t p = 0; p < ranks; ++p) {
      recv_bytes[p] = bytes;
      offsets[p] = static_cast<std::int64_t>(p) * bytes;
    }
  }
  context_.data().ragged_all_to_all({.send = tensor.local.data,
                                     .send_bytes = send_bytes,
                                     .send_offset_bytes = zeros,
                                     .recv = pieces_.as<char>(),
                                     .recv_bytes = recv_bytes,
                                     .recv_offset_bytes = offsets},
                                    stream_);
  stream_.synchronize_blocking();
}

std::span<const std::byte> ParameterGatherer::gather_blocking(const HeldTensor& tensor) {
  const bool spread = is_spread(tensor);
  if (spread) collect_blocking(tensor);
  if (context_.rank() != kRoot) return {};
  const DType own = tensor.local.dtype;
  const std::int64_t count = tensor.local.num_elements();
  const Shape shape = {spread ? context_.size() * count : count};
  TensorView source = spread ? front_of(pieces_, own, shape) : tensor.local.reshaped(shape);
  if (!source.device.is_cpu()) {
    const TensorView host = front_of(host_pieces_, own, shape);
    copy_blocking(host, source);
    source = host;
  }
  const TensorView whole = front_of(whole_, tensor.stored, {tensor.parameter->spec.num_elements()});
  const std::int64_t ranks = spread ? context_.size() : 1;
  for (std::int64_t p = 0; p < ranks; ++p) {
    const auto runs =
        spread
            ? runs_of(shard_of_rank(*tensor.parameter->held_by_layer, context_.size(), static_cast<int>(p)))
            : runs_of(*tensor.parameter);
    for (const ShardRun& run : runs)
      widen(whole.narrowed(run.whole, run.count), source.narrowed(p * count + run.local, run.count));
  }
  return {whole_.as<std::byte>(), static_cast<std::size_t>(whole.bytes())};
}

}  // namespace flex
