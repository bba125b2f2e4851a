#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "base/error.h"
#include "kernels/device.h"
#include "kernels/dtype.h"

namespace flex {

class Stream;

/// Up to four extents, outermost first.
class Shape {
 public:
  static constexpr int kMaxRank = 4;

  constexpr Shape() = default;
  /// @throws InputError for more than kMaxRank extents.
  constexpr Shape(std::initializer_list<std::int64_t> extents) {
    if (extents.size() > kMaxRank) throw InputError("a shape has at most 4 extents");
    for (const std::int64_t extent : extents) extents_[static_cast<std::size_t>(rank_++)] = extent;
  }

  [[nodiscard]] constexpr int rank() const { return rank_; }
  [[nodiscard]] constexpr std::int64_t operator[](int axis) const {
    return extents_[static_cast<std::size_t>(axis)];
  }
  /// Product of all extents; 0 for rank 0, which is how an absent tensor looks.
  [[nodiscard]] constexpr std::int64_t num_elements() const { return rank_ == 0 ? 0 : (*this)[0] * inner(); }
  /// Product of all extents but the first; 1 for rank 0 and 1.
  [[nodiscard]] constexpr std::int64_t inner() const {
    std::int64_t product = 1;
    for (int axis = 1; axis < rank_; ++axis) product *= (*this)[axis];
    return product;
  }
  friend constexpr bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

/// `(2, 3, 4)`.
[[nodiscard]] std::string to_string(const Shape& shape);

/// A typed window onto memory that someone else owns. Row-major; every axis but the outermost is contiguous,
/// and the outermost has its own stride, so that a slice of the middle axis is a view too. `Void` is `void`
/// or `const void`; a mutable view converts to a const one. The default view is absent (an optional argument
/// that was left out).
template <class Void>
struct BasicTensorView {
  Void* data = nullptr;
  DType dtype = DType::kF32;
  Device device;
  Shape shape;
  std::int64_t outer_stride = 0;  ///< elements between neighbours on axis 0

  constexpr BasicTensorView() = default;
  constexpr BasicTensorView(Void* data_in, DType dtype_in, Shape shape_in, Device device_in = Device::cpu())
      : data(data_in), dtype(dtype_in), device(device_in), shape(shape_in), outer_stride(shape_in.inner()) {}
  // Mutable to const, as for pointers. A template, because a plain constructor would be the copy constructor
  // of the mutable view.
  template <class Other>
  requires(std::is_const_v<Void>&& std::is_same_v<Other, void>)
      // NOLINTNEXTLINE(google-explicit-constructor)
      constexpr BasicTensorView(const BasicTensorView<Other>& other)
      : data(other.data),
        dtype(other.dtype),
        device(other.device),
        shape(other.shape),
        outer_stride(other.outer_stride) {}

  /// False for an argument that was left out. A view of no elements may have a null pointer and be present.
  [[nodiscard]] constexpr bool present() const { return shape.rank() > 0; }
  [[nodiscard]] constexpr std::int64_t size(int axis) const { return shape[axis]; }
  [[nodiscard]] constexpr std::int64_t num_elements() const { return shape.num_elements(); }
  [[nodiscard]] constexpr std::int64_t bytes() const { return num_elements() * size_bytes(dtype); }
  [[nodiscard]] constexpr bool contiguous() const { return outer_stride == shape.inner(); }

  /// The memory as T. The caller has checked dtype (kernels do so at their door).
  template <class T>
  [[nodiscard]] constexpr auto* as() const {
    return static_cast<std::conditional_t<std::is_const_v<Void>, const T, T>*>(data);
  }
  /// Start of the slice `index` of axis 0, as T.
  template <class T>
  [[nodiscard]] constexpr auto* slice(std::int64_t index) const {
    return as<T>() + index * outer_stride;
  }
  /// The same memory under another shape of as many elements. Needs a contiguous view.
  [[nodiscard]] constexpr BasicTensorView reshaped(Shape to) const {
    return BasicTensorView(data, dtype, to, device);
  }
  /// Elements [begin, begin + count) of axis 1 (of axis 0 for a vector), over the same memory.
  [[nodiscard]] constexpr BasicTensorView narrowed(std::int64_t begin, std::int64_t count) const {
    BasicTensorView result = *this;
    using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
    if (shape.rank() == 1) {
      result.shape = {count};
      result.data = static_cast<Byte*>(data) + begin * size_bytes(dtype);
      return result;
    }
    const std::int64_t row = shape.inner() / (shape[1] == 0 ? 1 : shape[1]);
    result.data = static_cast<Byte*>(data) + begin * row * size_bytes(dtype);
    switch (shape.rank()) {
      case 2:
        result.shape = {shape[0], count};
        break;
      case 3:
        result.shape = {shape[0], count, shape[2]};
        break;
      default:
        result.shape = {shape[0], count, shape[2], shape[3]};
        break;
    }
    return result;
  }
};

using TensorView = BasicTensorView<void>;
using ConstTensorView = BasicTensorView<const void>;

/// Owns its memory; move-only. Contents are unspecified after construction unless zeros() made it.
class Tensor {
 public:
  Tensor() = default;
  /// @throws OutOfMemoryError, DeviceError when the device is unusable, InputError like checked_bytes().
  Tensor(DType dtype, Shape shape, Device device = Device::cpu());
  ~Tensor();
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  [[nodiscard]] static Tensor zeros(DType dtype, Shape shape, Device device = Device::cpu());
  /// Host memory that copies from and to `device` do not block on: page-locked for a CUDA device, plain for
  /// the CPU.
  [[nodiscard]] static Tensor staging(DType dtype, Shape shape, Device device);

  [[nodiscard]] TensorView view() { return {data_, dtype_, shape_, device_}; }
  [[nodiscard]] ConstTensorView view() const { return {data_, dtype_, shape_, device_}; }
  // NOLINTNEXTLINE(google-explicit-constructor): an owner is usable wherever a view is asked for
  operator TensorView() { return view(); }
  // NOLINTNEXTLINE(google-explicit-constructor)
  operator ConstTensorView() const { return view(); }

  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] Device device() const { return device_; }
  [[nodiscard]] std::int64_t num_elements() const { return shape_.num_elements(); }
  [[nodiscard]] std::int64_t bytes() const { return num_elements() * size_bytes(dtype_); }
  template <class T>
  [[nodiscard]] T* as() {
    return static_cast<T*>(data_);
  }
  template <class T>
  [[nodiscard]] const T* as() const {
    return static_cast<const T*>(data_);
  }

 private:
  void release() noexcept;

  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_;
  Device device_;
  bool page_locked_ = false;
};

/// Alignment of every allocation of a Tensor or an Arena, in bytes: a cache-line pair, and more than any
/// vector load.
inline constexpr std::int64_t kAlignmentBytes = 256;

/// Bytes of a tensor that is about to be made. @throws InputError for a negative extent, or for more than
/// 2^62 bytes.
[[nodiscard]] std::int64_t checked_bytes(DType dtype, const Shape& shape);

/// Raw memory of `device`, aligned to kAlignmentBytes; null for zero bytes. @throws DeviceError.
[[nodiscard]] void* allocate_bytes(Device device, std::int64_t bytes);
/// Returns memory of allocate_bytes. Never throws; a failure is logged.
void free_bytes(Device device, void* data) noexcept;

/// Copies between any two devices and waits until it is done; shapes and types must agree. @throws
/// InputError, DeviceError.
void copy_blocking(TensorView to, ConstTensorView from);

/// Queues the same copy on `stream`, of the device of one of the two. The host goes on at once if host
/// memory, should one side be there, is a staging() tensor.
void copy(TensorView to, ConstTensorView from, Stream& stream);

}  // namespace flex
