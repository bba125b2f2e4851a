// flex_moe_kernels_bench [fp32|fp16|bf16] [ROW]
//
// Times gate, its loss, routing, encode, decode and their gradients on cuda:0 at the layer sizes of the
// published comparison (all rows, or row ROW). A figure is the median over samples of a run of calls between
// two events, after warm-up, over as many sets of buffers as it takes to leave the L2 cache. GB/s counts the
// bytes that must move, once each; its share is of a device-to-device copy measured first. Results are
// checked in the same run.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "base/require.h"
#include "bench/moe_layer_set.h"
#include "bench/rotated_timing.h"
#include "kernels/cuda_check.h"
#include "kernels/moe/decode.h"
#include "kernels/moe/encode.h"
#include "kernels/moe/gate.h"
#include "kernels/moe/gate_loss.h"
#include "kernels/moe/route.h"

namespace flex::bench {
namespace {

const Device kDevice = Device::cuda(0);

constexpr LayerSizes kRows[] = {
    {4096, 4096, 2, 2, 1},     {16384, 4096, 2, 2, 1},     {16384, 2048, 8, 2, 1},
    {8192, 2048, 64, 2, 1},    {65536, 1024, 32, 1, 1.25}, {12544, 512, 32, 1, 1.25},
    {50176, 512, 32, 1, 1.25}, {4096, 4096, 8, 2, 1},      {65536, 1024, 64, 2, 1}};

struct Operation {
  std::string name;
  double bytes;  // that must move
  double flops;
  std::function<void(LayerSet&)> run;
};

double bytes_of(const ConstTensorView& view) { return static_cast<double>(view.bytes()); }

std::vector<Operation> operations(const LayerSizes& row, LayerSet& layer, double kept_bytes, Stream& stream) {
  const double products = 2.0 * static_cast<double>(row.tokens * row.model_dim * row.experts);
  const auto slots_of = [](LayerSet& l) {
    return EncodeArgs{.x = l.x,
                      .indices = l.indices,
                      .locations = l.locations,
                      .counts = l.counts,
                      .capacity = l.layout.capacity,
                      .layout = l.layout,
                      .buffer = l.buffer};
  };
  const double choice_bytes = 2.0 * bytes_of(layer.indices);
  return {
      {"gate", bytes_of(layer.x) + bytes_of(layer.logits) + bytes_of(layer.weight), products,
       [&stream](LayerSet& l) { linear_gate({.x = l.x, .weight = l.weight, .logits = l.logits}, stream); }},
      {"gate backward", 2.0 * bytes_of(layer.x) + bytes_of(layer.logits) + 2.0 * bytes_of(layer.weight),
       2.0 * products,
       [&stream](LayerSet& l) {
         linear_gate_backward({.x = l.x,
                               .weight = l.weight,
                               .dlogits = l.dlogits,
                               .dweight = l.dweight,
                               .dx = l.dx,
                               .workspace = l.gate_workspace},
                              stream);
       }},
      {"route", 2.0 * bytes_of(layer.logits) + 1.5 * choice_bytes, 0.0,
       [&stream](LayerSet& l) {
         route({.logits = l.logits,
                .scores = l.scores,
                .indices = l.indices,
                .gates = l.gates,
                .locations = l.locations,
                .counts = l.counts,
                .needed_capacity = l.needed,
                .workspace = l.workspace},
               stream);
       }},
      {"route prioritized", 2.0 * bytes_of(layer.logits) + 1.5 * choice_bytes, 0.0,
       [&stream](LayerSet& l) {
         route({.logits = l.logits,
                .batch_prioritized = true,
                .scores = l.scores,
                .indices = l.indices,
                .gates = l.gates,
                .locations = l.locations,
                .counts = l.counts,
                .needed_capacity = l.needed,
                .workspace = l.workspace},
               stream);
       }},
      {"route (again)", 2.0 * bytes_of(layer.logits) + 1.5 * choice_bytes, 0.0,  // the places that follow use
       [&stream](LayerSet& l) {
         route({.logits = l.logits,
                .scores = l.scores,
                .indices = l.indices,
                .gates = l.gates,
                .locations = l.locations,
                .counts = l.counts,
                .needed_capacity = l.needed,
                .workspace = l.workspace},
               stream);
       }},
      {"gate loss sums", bytes_of(layer.scores) + 0.5 * choice_bytes, 0.0,
       [&stream](LayerSet& l) {
         gate_loss_sums({.settings = {},
                         .scores = l.scores,
                         .clean = l.logits,
                         .noisy = l.logits,
                         .indices = l.indices,
                         .sums = l.loss_sums,
                         .workspace = l.loss_workspace},
                        stream);
       }},
      {"route backward", 2.0 * bytes_of(layer.logits) + choice_bytes, 0.0,
       [&stream](LayerSet& l) {
         route_backward({.scores = l.scores, .indices = l.indices, .dgates = l.gates, .dlogits = l.dlogits},
                        stream);
       }},
      {"gate loss backward", 3.0 * bytes_of(layer.logits), 0.0,
       [&stream](LayerSet& l) {
         gate_loss_backward({.settings = {},
                             .scores = l.scores,
                             .clean = l.logits,
                             .noisy = l.logits,
                             .indices = l.indices,
                             .sums = l.loss_sums,
                             .dvalue = 0.01,
                             .dlogits = l.dlogits},
                            stream);
       }},
      {"encode", bytes_of(layer.x) + bytes_of(layer.buffer) + choice_bytes, 0.0,
       [&stream, slots_of](LayerSet& l) { encode(slots_of(l), stream); }},
      {"decode", kept_bytes + bytes_of(layer.y) + 1.5 * choice_bytes, 0.0,
       [&stream](LayerSet& l) {
         decode({.buffer = l.buffer,
                 .indices = l.indices,
                 .locations = l.locations,
                 .gates = l.gates,
                 .capacity = l.layout.capacity,
                 .layout = l.layout,
                 .y = l.y},
                stream);
       }},
      {"decode backward", bytes_of(layer.dy) + kept_bytes + bytes_of(layer.dbuffer) + 2.0 * choice_bytes, 0.0,
       [&stream](LayerSet& l) {
         decode_backward({.dy = l.dy,
                          .buffer = l.buffer,
                          .indices = l.indices,
                          .locations = l.locations,
                          .counts = l.counts,
                          .gates = l.gates,
                          .capacity = l.layout.capacity,
                          .buffer_layout = l.layout,
                          .dbuffer_layout = l.layout,
                          .dbuffer = l.dbuffer,
                          .dgates = l.dgates},
                         stream);
       }},
      {"encode backward", kept_bytes + bytes_of(layer.dx) + choice_bytes, 0.0, [&stream](LayerSet& l) {
         encode_backward({.dbuffer = l.dbuffer,
                          .indices = l.indices,
                          .locations = l.locations,
                          .capacity = l.layout.capacity,
                          .layout = l.layout,
                          .dx = l.dx},
                         stream);
       }}};
}

template <class T>
std::vector<T> read(const Tensor& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.num_elements()));
  copy_blocking({values.data(), tensor.dtype(), tensor.shape()}, tensor);
  return values;
}

// Counts agree with each other, and some slots hold the bytes of their tokens. Returns the kept choices.
std::int64_t check_results(const LayerSizes& row, const LayerSet& layer) {
  const auto counts = read<std::int32_t>(layer.counts);
  const auto indices = read<std::int32_t>(layer.indices);
  const auto locations = read<std::int32_t>(layer.locations);
  std::int64_t kept = 0;
  std::int64_t total = 0;
  for (const std::int64_t count : counts) {
    total += count;
    kept += std::min(count, layer.layout.capacity);
  }
  require(total == row.tokens * row.top_k, "counts add up to {}, expected {}", total, row.tokens * row.top_k);
  require(read<std::int32_t>(layer.needed)[0] == *std::max_element(counts.begin(), counts.end()),
          "needed_capacity is not the largest count");
  const std::int64_t row_bytes = layer.x.bytes() / row.tokens;
  const auto read_row = [row_bytes](const Tensor& tensor, std::int64_t index) {
    std::vector<char> bytes(static_cast<std::size_t>(row_bytes));
    copy_blocking({bytes.data(), DType::kU8, {row_bytes}},
                  {tensor.as<char>() + index * row_bytes, DType::kU8, {row_bytes}, kDevice});
    return bytes;
  };
  for (std::int64_t i = 0; i < row.tokens * row.top_k; i += row.tokens * row.top_k / 64 + 1) {
    const auto place = static_cast<std::size_t>(i);
    if (locations[place] >= layer.layout.capacity) continue;
    const std::int64_t slot = layer.layout.row(indices[place], locations[place]);
    require(read_row(layer.buffer, slot) == read_row(layer.x, i / row.top_k), "slot {} is not token {}", slot,
            i / row.top_k);
  }
  return kept;
}

void bench_row(const LayerSizes& row, DType dtype, double ceiling_GBps, Stream& stream) {
  const std::int64_t set_bytes = 2 * row.tokens * row.model_dim * size_bytes(dtype);
  const std::int64_t num_sets = std::max<std::int64_t>(kRotatedBytes / set_bytes + 1, 2);
  std::vector<LayerSet> layers;
  for (std::int64_t set = 0; set < num_sets; ++set) {
    layers.emplace_back(row, dtype, static_cast<std::uint64_t>(10 * set + 1), stream);
  }
  // One round fills every set, in the order of use, and tells how many choices are kept.
  for (LayerSet& layer : layers) {
    for (const Operation& operation : operations(row, layer, 0.0, stream)) operation.run(layer);
  }
  stream.synchronize_blocking();
  const std::int64_t kept = check_results(row, layers[0]);
  const double kept_bytes = static_cast<double>(kept * row.model_dim * size_bytes(dtype));
  fmt::print("\nT {} M {} E {} k {} C {} {}, {} sets, {} of {} choices kept\n", row.tokens, row.model_dim,
             row.experts, row.top_k, layers[0].layout.capacity, name(dtype), num_sets, kept,
             row.tokens * row.top_k);
  for (const Operation& operation : operations(row, layers[0], kept_bytes, stream)) {
    const double us = rotated_time_us(
        stream, [&](int i) { operation.run(layers[static_cast<std::size_t>(i) % layers.size()]); });
    const double rate_GBps = operation.bytes / us * 1e-3;
    fmt::print("  {:<18} {:9.1f} us {:8.0f} GB/s {:5.1f} % of copy", operation.name, us, rate_GBps,
               100.0 * rate_GBps / ceiling_GBps);
    if (operation.flops > 0.0) fmt::print(" {:7.1f} TFLOP/s", operation.flops / us * 1e-6);
    fmt::print("\n");
  }
  static_cast<void>(check_results(row, layers.back()));
}

void run(int argc, char** argv) {
  const auto dtype = parse_dtype(argc > 1 ? argv[1] : "bf16");
  require(dtype.has_value() && is_floating(*dtype) && *dtype != DType::kF64,
          "usage: flex_moe_kernels_bench [fp32|fp16|bf16] [ROW]");
  const int only = argc > 2 ? std::atoi(argv[2]) : -1;
  Stream stream(kDevice);
  cudaDeviceProp properties = {};
  FLEX_CUDA_CHECK(cudaGetDeviceProperties(&properties, kDevice.index));
  const double ceiling_GBps = copy_ceiling_GBps(kDevice, stream);
  fmt::print("{}, device-to-device copy {:.0f} GB/s\n", properties.name, ceiling_GBps);
  for (int row = 0; row < static_cast<int>(std::size(kRows)); ++row) {
    if (only < 0 || only == row) bench_row(kRows[row], *dtype, ceiling_GBps, stream);
  }
}

}  // namespace
}  // namespace flex::bench

int main(int argc, char** argv) {
  try {
    flex::bench::run(argc, argv);
  } catch (const flex::InputError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
