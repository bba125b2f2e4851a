#include "kernels/device.h"

#include <gtest/gtest.h>

#include "kernels/dtype.h"
#include "tests/support/compare.h"

namespace flex::testing {
namespace {

TEST(Device, PrintsWhatItParses) {
  for (const Device device : {Device::cpu(), Device::cuda(0), Device::cuda(7), Device::cuda(123)}) {
    EXPECT_EQ(parse_device(to_string(device)), device);
  }
  EXPECT_EQ(to_string(Device::cpu()), "cpu");
  EXPECT_EQ(to_string(Device::cuda(3)), "cuda:3");
  EXPECT_EQ(parse_device("cuda"), Device::cuda(0));
}

TEST(Device, RefusesOtherNames) {
  for (const char* text :
       {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda: 1", "cuda:99999999999"}) {
    EXPECT_EQ(error_text([&] { static_cast<void>(parse_device(text)); }),
              "device '" + std::string(text) + "' is unknown; use cpu or cuda:N");
  }
}

TEST(Device, DefaultIsTheCpu) {
  static_assert(Device{} == Device::cpu());
  static_assert(Device::cpu().is_cpu() && !Device::cpu().is_cuda());
  static_assert(Device::cuda(1).is_cuda() && Device::cuda(1) != Device::cuda(2));
  static_assert(Device::cpu() < Device::cuda(0));
  EXPECT_NO_THROW(require_usable(Device::cpu()));
}

TEST(Device, SaysWhatWouldMakeAnUnusableOneUsable) {
  const int count = num_cuda_devices();
  const std::string text = error_text<DeviceError>([&] { require_usable(Device::cuda(count)); });
  if (!kHasCuda) {
    EXPECT_EQ(count, 0);
    EXPECT_EQ(text, "cuda:0: this build is CPU-only; reconfigure with -DFLEX_CUDA=ON");
  } else if (count == 0) {
    EXPECT_EQ(text, "cuda:0: no CUDA device can be used on this machine (no GPU, or no driver); use cpu");
  } else {
    EXPECT_NE(text.find("this machine has"), std::string::npos) << text;
  }
}

TEST(Device, TellsItsMemoryOnCudaOnly) {
  EXPECT_EQ(error_text([] { static_cast<void>(device_memory(Device::cpu())); }),
            "device_memory: asked for cpu; only a CUDA device's memory is counted");
  const int count = num_cuda_devices();
  EXPECT_THROW(static_cast<void>(device_memory(Device::cuda(count))), DeviceError);
  for (int index = 0; index < count; ++index) {
    const DeviceMemory memory = device_memory(Device::cuda(index));
    EXPECT_GT(memory.free_bytes, 0);
    EXPECT_GT(memory.total_bytes, memory.free_bytes) << "the context alone takes some";
  }
}

constexpr DType kAllDTypes[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16,
                                DType::kI64, DType::kI32, DType::kU8};

TEST(DType, PrintsWhatItParses) {
  for (const DType dtype : kAllDTypes) EXPECT_EQ(parse_dtype(name(dtype)), dtype);
  EXPECT_EQ(name(DType::kBF16), "bf16");
  for (const char* text : {"", "float", "FP32", "fp8", "fp32 ", "?"}) {
    EXPECT_EQ(parse_dtype(text), std::nullopt) << text;
  }
}

TEST(DType, KnowsItsSizeAndKind) {
  static_assert(size_bytes(DType::kF64) == sizeof(double) && size_bytes(DType::kF32) == sizeof(float));
  static_assert(size_bytes(DType::kF16) == 2 && size_bytes(DType::kBF16) == 2 && size_bytes(DType::kU8) == 1);
  static_assert(size_bytes(DType::kI64) == 8 && size_bytes(DType::kI32) == 4);
  static_assert(is_floating(DType::kF16) && is_floating(DType::kF64) && !is_floating(DType::kI32));
  static_assert(kDTypeOf<double> == DType::kF64 && kDTypeOf<std::int32_t> == DType::kI32);
  for (const DType dtype : kAllDTypes) {
    EXPECT_EQ(gate_dtype(dtype), dtype == DType::kF64 ? DType::kF64 : DType::kF32) << name(dtype);
  }
}

}  // namespace
}  // namespace flex::testing
