#include "models/drop_path.h"

#include "base/philox.h"
#include "kernels/host_element.h"

namespace flex {

double drop_path_factor(std::uint64_t seed, std::uint64_t iteration, std::int64_t branch, std::int64_t sample,
                        double rate) {
  constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;
  const std::uint64_t key = splitmix64(splitmix64(seed) ^ iteration);
  const auto sample_bits = static_cast<std::uint64_t>(sample);
  const PhiloxBlock block =
      philox4x32({{static_cast<std::uint32_t>(sample_bits), static_cast<std::uint32_t>(sample_bits >> 32),
                   static_cast<std::uint32_t>(branch), 0}},
                 {{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}});
  return static_cast<double>(block.words[0]) * kTwoToMinus32 < rate ? 0 : 1 / (1 - rate);
}

DropPath::DropPath(const ModelConfig& config, DType dtype, Device device, std::int64_t batch,
                   std::int64_t first_sample, std::uint64_t seed)
    : first_sample_(first_sample), seed_(seed) {
  for (const BlockPlace place : config.all_blocks()) rates_.push_back(config.drop_path_of(place));
  if (config.drop_path == 0) return;
  const Shape shape = {static_cast<std::int64_t>(rates_.size()), kBranches, batch};
  host_ = Tensor::staging(gate_dtype(dtype), shape, device);
  factors_ = Tensor(gate_dtype(dtype), shape, device);
}

void DropPath::draw(std::uint64_t iteration, Stream& stream) {
  if (factors_.num_elements() == 0) return;
  const std::int64_t batch = factors_.shape()[2];
  for (std::int64_t branch = 0; branch < factors_.shape()[0] * kBranches; ++branch) {
    const double rate = rates_[static_cast<std::size_t>(branch / kBranches)];
    for (std::int64_t i = 0; i < batch; ++i) {
      set_host_element(host_, branch * batch + i,
                       drop_path_factor(seed_, iteration, branch, first_sample_ + i, rate));
    }
  }
  copy(factors_, host_, stream);
}

BranchFactors DropPath::factors(std::size_t index) const {
  if (factors_.num_elements() == 0 || rates_[index] == 0) return {};
  const std::int64_t batch = factors_.shape()[2];
  const auto branch = [&](std::int64_t i) {
    const std::int64_t offset = (static_cast<std::int64_t>(index) * kBranches + i) * batch;
    return ConstTensorView(factors_.as<char>() + offset * size_bytes(factors_.dtype()), factors_.dtype(),
                           {batch}, factors_.device());
  };
  return {branch(0), branch(1)};
}

}  // namespace flex
