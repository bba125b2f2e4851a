#include "runtime/device_ceilings.h"

#include <algorithm>
#include <vector>

#include "kernels/tensor.h"
#include "profiler/stream_timer.h"
#include "runtime/random_tensor.h"

namespace flex {
namespace {

constexpr int kWarmup = 3;
constexpr int kRepeats = 20;

template <class F>
double median_us(Stream& stream, F work) {
  StreamTimer timer(stream.device());
  std::vector<double> times;
  for (int i = 0; i < kWarmup + kRepeats; ++i) {
    timer.start(stream);
    work();
    timer.stop(stream);
    const double elapsed = timer.elapsed_us_blocking();
    if (i >= kWarmup) times.push_back(elapsed);
  }
  std::ranges::nth_element(times, times.begin() + kRepeats / 2);
  return times[kRepeats / 2];
}

// Random values, since zeros run faster.
Tensor random_tensor(DType dtype, Shape shape, Device device, std::uint64_t stream) {
  return random_normal_tensor(dtype, shape, device, 1, stream);
}

}  // namespace

double measure_copy_GBps(Stream& stream) {
  constexpr std::int64_t kBytes = std::int64_t{4} << 30;
  const Tensor from = Tensor::zeros(DType::kU8, {kBytes}, stream.device());
  Tensor to(DType::kU8, {kBytes}, stream.device());
  return 2.0 * static_cast<double>(kBytes) / median_us(stream, [&] { copy(to, from, stream); }) * 1e-3;
}

double measure_matrix_TFLOPs(DType dtype, GemmAlgorithms& gemm, Stream& stream) {
  constexpr std::int64_t kSize = 8192;
  const Tensor a = random_tensor(dtype, {kSize, kSize}, stream.device(), 1);
  const Tensor b = random_tensor(dtype, {kSize, kSize}, stream.device(), 2);
  Tensor d(dtype, {kSize, kSize}, stream.device());
  const GemmCall call{.shape = {.dtype = dtype, .transpose_b = true, .m = kSize, .n = kSize, .k = kSize},
                      .a = a.view().data,
                      .b = b.view().data,
                      .d = d.view().data};
  gemm.tune_blocking(call);
  const double us = median_us(stream, [&] { gemm.run(call, stream); });
  return 2.0 * static_cast<double>(kSize) * kSize * kSize / us * 1e-6;
}

DeviceCeilings measure_ceilings(DType dtype, GemmAlgorithms& gemm, Stream& stream) {
  return {.copy_GBps = measure_copy_GBps(stream),
          .matrix_TFLOPs = measure_matrix_TFLOPs(dtype, gemm, stream)};
}

double measure_expert_products_us(DType dtype, std::int64_t experts, std::int64_t rows,
                                  std::int64_t model_dim, std::int64_t hidden_dim, GemmAlgorithms& gemm,
                                  Stream& stream) {
  const Device device = stream.device();
  const Tensor x = random_tensor(dtype, {experts, rows, model_dim}, device, 1);
  const Tensor w1 = random_tensor(dtype, {experts, hidden_dim, model_dim}, device, 2);
  const Tensor w2 = random_tensor(dtype, {experts, hidden_dim, model_dim}, device, 3);
  Tensor h(dtype, {experts, rows, hidden_dim}, device);
  Tensor y(dtype, {experts, rows, model_dim}, device);
  const GemmCall first{.shape = {.dtype = dtype,
                                 .transpose_b = true,
                                 .m = rows,
                                 .n = hidden_dim,
                                 .k = model_dim,
                                 .batch = experts,
                                 .stride_a = rows * model_dim,
                                 .stride_b = hidden_dim * model_dim,
                                 .stride_d = rows * hidden_dim},
                       .a = x.view().data,
                       .b = w1.view().data,
                       .d = h.view().data};
  const GemmCall second{.shape = {.dtype = dtype,
                                  .m = rows,
                                  .n = model_dim,
                                  .k = hidden_dim,
                                  .batch = experts,
                                  .stride_a = rows * hidden_dim,
                                  .stride_b = hidden_dim * model_dim,
                                  .stride_d = rows * model_dim},
                        .a = h.view().data,
                        .b = w2.view().data,
                        .d = y.view().data};
  gemm.tune_blocking(first);
  gemm.tune_blocking(second);
  return median_us(stream, [&] {
    gemm.run(first, stream);
    gemm.run(second, stream);
  });
}

}  // namespace flex
