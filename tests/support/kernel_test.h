#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/stream.h"
#include "kernels/tensor.h"
#include "tests/support/compare.h"
#include "tests/support/tensors.h"

/// One suite for every device and element type of a kernel.
namespace flex::testing {

/// Where and in which type a case runs.
struct Backend {
  Device device;
  DType dtype = DType::kF64;
};

/// `cpu_fp64`, `cuda_fp16`.
[[nodiscard]] inline std::string to_string(const Backend& backend) {
  return std::string(backend.device.is_cpu() ? "cpu_" : "cuda_") + std::string(name(backend.dtype));
}
inline void PrintTo(const Backend& backend, std::ostream* out) { *out << to_string(backend); }
[[nodiscard]] inline std::string backend_name(const ::testing::TestParamInfo<Backend>& info) {
  return to_string(info.param);
}

/// Every backend of this build; without CUDA the CPU's two.
[[nodiscard]] inline std::vector<Backend> all_backends() {
  std::vector<Backend> backends = {{Device::cpu(), DType::kF64}, {Device::cpu(), DType::kF32}};
  if (kHasCuda) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
      backends.push_back({Device::cuda(0), dtype});
  }
  return backends;
}

/// Those of kernels that know only the gate's types.
[[nodiscard]] inline std::vector<Backend> gate_backends() {
  std::vector<Backend> backends = {{Device::cpu(), DType::kF64}, {Device::cpu(), DType::kF32}};
  if (kHasCuda) backends.push_back({Device::cuda(0), DType::kF32});
  return backends;
}

/// The one that finite differences are taken on.
[[nodiscard]] inline std::vector<Backend> double_backend() { return {{Device::cpu(), DType::kF64}}; }

/// True when tests of `device` cannot run here and may be skipped; with FLEX_REQUIRE_CUDA=1 they must run.
[[nodiscard]] inline bool skip_device(Device device) {
  if (device.is_cpu() || num_cuda_devices() > 0) return false;
  const char* required = std::getenv("FLEX_REQUIRE_CUDA");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return required == nullptr || std::string(required) != "1";
}

/// Fixture: makes tensors on the backend's device, outputs poisoned, and waits for its stream.
class KernelTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (skip_device(device())) GTEST_SKIP() << "no GPU";
    stream_.emplace(device());
  }

  [[nodiscard]] Device device() const { return GetParam().device; }
  [[nodiscard]] DType dtype() const { return GetParam().dtype; }
  [[nodiscard]] DType gate_type() const { return gate_dtype(dtype()); }
  [[nodiscard]] Stream& stream() { return *stream_; }
  void wait() { stream_->synchronize_blocking(); }

  /// Inputs in the backend's type, in the gate's type, and in i32.
  [[nodiscard]] Tensor real(Shape shape, const std::vector<double>& values) const {
    return make_tensor(shape, values, dtype(), device());
  }
  [[nodiscard]] Tensor gate_real(Shape shape, const std::vector<double>& values) const {
    return make_tensor(shape, values, gate_type(), device());
  }
  [[nodiscard]] Tensor ints(Shape shape, const std::vector<double>& values) const {
    return make_tensor(shape, values, DType::kI32, device());
  }
  [[nodiscard]] Tensor random_real(Shape shape, std::uint64_t seed) const {
    return random_tensor(shape, seed, dtype(), device());
  }
  [[nodiscard]] Tensor random_gate_real(Shape shape, std::uint64_t seed) const {
    return random_tensor(shape, seed, gate_type(), device());
  }
  /// Poisoned outputs.
  [[nodiscard]] Tensor real_output(Shape shape) const { return poisoned_tensor(shape, dtype(), device()); }
  [[nodiscard]] Tensor gate_output(Shape shape) const {
    return poisoned_tensor(shape, gate_type(), device());
  }
  [[nodiscard]] Tensor int_output(Shape shape) const { return poisoned_tensor(shape, DType::kI32, device()); }
  [[nodiscard]] Tensor bytes(std::int64_t count) const {
    return poisoned_tensor({count}, DType::kU8, device());
  }

 private:
  std::optional<Stream> stream_;
};

}  // namespace flex::testing
