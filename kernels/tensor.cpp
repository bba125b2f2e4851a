#include "kernels/tensor.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "kernels/stream.h"

#ifdef FLEX_HAS_CUDA
#include "kernels/cuda_check.h"
#endif

namespace flex {

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int axis = 0; axis < shape.rank(); ++axis)
    text += fmt::format("{}{}", axis == 0 ? "" : ", ", shape[axis]);
  return text + ")";
}

std::int64_t checked_bytes(DType dtype, const Shape& shape) {
  constexpr std::int64_t kMaxBytes = std::int64_t{1} << 62;
  std::int64_t limit = kMaxBytes / size_bytes(dtype);
  for (int axis = 0; axis < shape.rank(); ++axis) {
    require(shape[axis] >= 0, "a tensor of shape {} has a negative extent", to_string(shape));
    require(shape[axis] <= limit, "a tensor of {} of shape {} has more than 2^62 bytes", name(dtype),
            to_string(shape));
    if (shape[axis] > 0) limit /= shape[axis];
  }
  return shape.num_elements() * size_bytes(dtype);
}

void* allocate_bytes(Device device, std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  if (device.is_cpu()) {
    void* data =
        ::operator new (static_cast<std::size_t>(bytes), std::align_val_t{kAlignmentBytes}, std::nothrow);
    require<OutOfMemoryError>(data != nullptr, "out of host memory: {} bytes were asked for", bytes);
    return data;
  }
  require_usable(device);
#ifdef FLEX_HAS_CUDA
  void* data = nullptr;
  FLEX_CUDA_CHECK(cudaSetDevice(device.index));
  const cudaError_t status = cudaMalloc(&data, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    const DeviceMemory memory = device_memory(device);
    fail<OutOfMemoryError>("{} is out of memory: {} bytes were asked for, {} of {} are free",
                           to_string(device), bytes, memory.free_bytes, memory.total_bytes);
  }
  FLEX_CUDA_CHECK(status);
  return data;
#else
  return nullptr;
#endif
}

void free_bytes(Device device, void* data) noexcept {
  if (data == nullptr) return;
  if (device.is_cpu()) {
    ::operator delete (data, std::align_val_t{kAlignmentBytes});
    return;
  }
#ifdef FLEX_HAS_CUDA
  const cudaError_t status = cudaFree(data);
  if (status == cudaSuccess || status == cudaErrorCudartUnloading) return;  // the process is exiting: no news
  log_error("memory of {} not freed: {}", to_string(device), cudaGetErrorString(status));
#endif
}

Tensor::Tensor(DType dtype, Shape shape, Device device) : dtype_(dtype), shape_(shape), device_(device) {
  data_ = allocate_bytes(device, checked_bytes(dtype, shape));
}

Tensor::~Tensor() { release(); }

void Tensor::release() noexcept {
#ifdef FLEX_HAS_CUDA
  if (page_locked_ && data_ != nullptr) {
    const cudaError_t status = cudaFreeHost(data_);
    if (status != cudaSuccess && status != cudaErrorCudartUnloading) {
      log_error("page-locked memory not freed: {}", cudaGetErrorString(status));
    }
    return;
  }
#endif
  free_bytes(device_, data_);
}

Tensor Tensor::staging(DType dtype, Shape shape, Device device) {
  if (device.is_cpu()) return {dtype, shape};
  require_usable(device);
  Tensor result;
  result.dtype_ = dtype;
  result.shape_ = shape;
#ifdef FLEX_HAS_CUDA
  result.page_locked_ = true;
  FLEX_CUDA_CHECK(
      cudaMallocHost(&result.data_, static_cast<std::size_t>(std::max<std::int64_t>(result.bytes(), 1))));
#endif
  return result;
}

Tensor::Tensor(Tensor&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      dtype_(other.dtype_),
      shape_(other.shape_),
      device_(other.device_),
      page_locked_(other.page_locked_) {
  other.shape_ = {};
}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    dtype_ = other.dtype_;
    shape_ = std::exchange(other.shape_, Shape{});
    device_ = other.device_;
    page_locked_ = other.page_locked_;
  }
  return *this;
}

Tensor Tensor::zeros(DType dtype, Shape shape, Device device) {
  Tensor result(dtype, shape, device);
  if (result.bytes() == 0) return result;
  if (device.is_cpu()) std::memset(result.data_, 0, static_cast<std::size_t>(result.bytes()));
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) {
    FLEX_CUDA_CHECK(cudaMemset(result.data_, 0, static_cast<std::size_t>(result.bytes())));
    FLEX_CUDA_CHECK(cudaStreamSynchronize(nullptr));  // our streams do not wait for the default stream
  }
#endif
  return result;
}

namespace {

void check_copy(const char* what, const TensorView& to, const ConstTensorView& from) {
  require(to.shape == from.shape && to.dtype == from.dtype, "{}: to is {} {}, from is {} {}", what,
          name(to.dtype), to_string(to.shape), name(from.dtype), to_string(from.shape));
  require(to.bytes() == 0 || (to.contiguous() && from.contiguous()), "{}: both views must be contiguous",
          what);
}

}  // namespace

void copy(TensorView to, ConstTensorView from, Stream& stream) {
  check_copy("copy", to, from);
  if (to.bytes() == 0) return;
  if (stream.device().is_cpu()) {
    require(to.device.is_cpu() && from.device.is_cpu(),
            "copy: a CPU stream copies host memory, not from {} to {}", to_string(from.device),
            to_string(to.device));
    stream.enqueue([to, from] { std::memcpy(to.data, from.data, static_cast<std::size_t>(to.bytes())); });
    return;
  }
#ifdef FLEX_HAS_CUDA
  FLEX_CUDA_CHECK(cudaMemcpyAsync(to.data, from.data, static_cast<std::size_t>(to.bytes()), cudaMemcpyDefault,
                                  static_cast<cudaStream_t>(stream.native())));
#endif
}

void copy_blocking(TensorView to, ConstTensorView from) {
  check_copy("copy_blocking", to, from);
  if (to.bytes() == 0) return;
  if (to.device.is_cpu() && from.device.is_cpu()) {
    std::memcpy(to.data, from.data, static_cast<std::size_t>(to.bytes()));
    return;
  }
#ifdef FLEX_HAS_CUDA
  FLEX_CUDA_CHECK(cudaSetDevice(to.device.is_cuda() ? to.device.index : from.device.index));
  FLEX_CUDA_CHECK(cudaMemcpy(to.data, from.data, static_cast<std::size_t>(to.bytes()), cudaMemcpyDefault));
  FLEX_CUDA_CHECK(cudaStreamSynchronize(nullptr));  // a copy on the device returns before it is done
#endif
}

}  // namespace flex
