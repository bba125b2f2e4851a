#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <cstring>
#include <latch>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/stream.h"
#include "tests/support/compare.h"
#include "tests/support/tensors.h"

namespace flex::testing {
namespace {

// Elements 0, 1, 2, ... in row-major order.
Tensor iota_tensor(Shape shape) {
  std::vector<double> values(static_cast<std::size_t>(shape.num_elements()));
  std::iota(values.begin(), values.end(), 0.0);
  return make_tensor(shape, values);
}

bool is_aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % kAlignmentBytes == 0; }

TEST(Shape, CountsItsElements) {
  constexpr Shape kShape = {2, 3, 4};
  static_assert(kShape.rank() == 3 && kShape[2] == 4 && kShape.num_elements() == 24 && kShape.inner() == 12);
  static_assert(Shape{5}.num_elements() == 5 && Shape{5}.inner() == 1);
  static_assert(Shape{4, 0, 7}.num_elements() == 0 && Shape{0, 3}.inner() == 3);
  EXPECT_EQ(to_string(kShape), "(2, 3, 4)");
  EXPECT_EQ(to_string(Shape{6}), "(6)");
}

// An absent tensor has no memory, so that nothing may be counted in it.
TEST(Shape, OfRankZeroHasNoElements) {
  static_assert(Shape{}.rank() == 0 && Shape{}.num_elements() == 0);
  EXPECT_EQ(to_string(Shape{}), "()");
  EXPECT_EQ(Tensor().bytes(), 0);
  EXPECT_EQ(TensorView().bytes(), 0);
}

TEST(Shape, ComparesRankAndExtents) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
  EXPECT_NE((Shape{0}), Shape{});
}

TEST(Shape, RefusesAFifthExtent) {
  EXPECT_EQ((Shape{1, 2, 3, 4}).rank(), Shape::kMaxRank);
  EXPECT_EQ(error_text([] { static_cast<void>(Shape{1, 2, 3, 4, 5}); }), "a shape has at most 4 extents");
}

TEST(TensorView, NarrowsTheMiddleAxis) {
  Tensor tensor = iota_tensor({2, 4, 3});
  const TensorView view = tensor.view().narrowed(1, 2);
  EXPECT_EQ(view.shape, (Shape{2, 2, 3}));
  EXPECT_EQ(view.outer_stride, 12);
  EXPECT_FALSE(view.contiguous());
  EXPECT_EQ(view.num_elements(), 12);
  EXPECT_EQ(view.bytes(), 96);
  EXPECT_EQ(*view.slice<double>(0), 3);
  EXPECT_EQ(*view.slice<double>(1), 15);
  EXPECT_EQ(view.slice<double>(1)[5], 20);
  const TensorView again = view.narrowed(1, 1);
  EXPECT_EQ(again.slice<double>(1)[2], 20);
  EXPECT_EQ(again.outer_stride, 12);
}

TEST(TensorView, NarrowsColumnsOfAMatrix) {
  Tensor tensor = iota_tensor({3, 5});
  const TensorView view = tensor.view().narrowed(2, 3);
  EXPECT_EQ(view.shape, (Shape{3, 3}));
  for (std::int64_t row = 0; row < 3; ++row) {
    for (std::int64_t column = 0; column < 3; ++column) {
      EXPECT_EQ(view.slice<double>(row)[column],
                5.0 * static_cast<double>(row) + 2.0 + static_cast<double>(column));
    }
  }
}

TEST(TensorView, NarrowsAxisZeroOfAVector) {
  Tensor tensor = iota_tensor({7});
  const TensorView view = tensor.view().narrowed(3, 2);
  EXPECT_EQ(view.shape, Shape{2});
  EXPECT_TRUE(view.contiguous());
  EXPECT_EQ(values_of(view), (std::vector<double>{3, 4}));
}

TEST(TensorView, NarrowsFourAxes) {
  Tensor tensor = iota_tensor({2, 3, 2, 2});
  const ConstTensorView view = ConstTensorView(tensor).narrowed(2, 1);
  EXPECT_EQ(view.shape, (Shape{2, 1, 2, 2}));
  EXPECT_EQ(view.slice<double>(1)[3], 23);
}

TEST(TensorView, NarrowedToEverythingStaysContiguous) {
  Tensor tensor = iota_tensor({2, 3});
  EXPECT_TRUE(tensor.view().narrowed(0, 3).contiguous());
  EXPECT_EQ(tensor.view().narrowed(3, 0).num_elements(), 0);
  EXPECT_EQ(Tensor(DType::kF32, {2, 0, 3}).view().narrowed(0, 0).shape, (Shape{2, 0, 3}));
}

TEST(TensorView, ReshapedSharesMemory) {
  Tensor tensor = iota_tensor({2, 6});
  const TensorView view = tensor.view().reshaped({3, 2, 2});
  EXPECT_EQ(view.data, tensor.view().data);
  EXPECT_EQ(view.outer_stride, 4);
  EXPECT_EQ(*view.slice<double>(2), 8);
  *view.slice<double>(2) = -1;
  EXPECT_EQ(tensor.as<double>()[8], -1);
}

TEST(TensorView, MutableConvertsToConstOnly) {
  static_assert(std::is_convertible_v<TensorView, ConstTensorView>);
  static_assert(!std::is_convertible_v<ConstTensorView, TensorView>);
  static_assert(std::is_same_v<decltype(ConstTensorView().as<float>()), const float*>);
  Tensor tensor = iota_tensor({2, 4});
  const ConstTensorView view = tensor.view().narrowed(1, 2);
  EXPECT_EQ(view.outer_stride, 4);
  EXPECT_EQ(view.slice<double>(1)[0], 5);
}

TEST(TensorView, OfNoElementsIsPresent) {
  EXPECT_FALSE(TensorView().present());
  const Tensor empty(DType::kF64, {0, 3});
  EXPECT_TRUE(empty.view().present());
  EXPECT_EQ(empty.view().data, nullptr);
  EXPECT_TRUE(empty.view().contiguous());
}

TEST(Tensor, OwnsAlignedMemory) {
  static_assert(!std::is_copy_constructible_v<Tensor> && std::is_nothrow_move_constructible_v<Tensor>);
  for (const std::int64_t size : {1, 3, 257}) {
    const Tensor tensor(DType::kU8, {size});
    EXPECT_TRUE(is_aligned(tensor.as<std::uint8_t>()));
    EXPECT_EQ(tensor.bytes(), size);
  }
}

TEST(Tensor, ZerosIsZero) {
  const Tensor tensor = Tensor::zeros(DType::kI32, {3, 5});
  for (std::int64_t i = 0; i < tensor.num_elements(); ++i) EXPECT_EQ(tensor.as<std::int32_t>()[i], 0);
  EXPECT_EQ(Tensor::zeros(DType::kF64, {0, 4}).num_elements(), 0);
}

TEST(Tensor, MoveTakesTheMemory) {
  Tensor first = iota_tensor({2, 3});
  const void* data = first.view().data;
  Tensor second = std::move(first);
  EXPECT_EQ(second.view().data, data);
  EXPECT_EQ(second.shape(), (Shape{2, 3}));
  EXPECT_EQ(first.bytes(), 0);  // NOLINT(bugprone-use-after-move): the state after a move is what is tested
  EXPECT_FALSE(first.view().present());

  Tensor third = iota_tensor({4});
  third = std::move(second);
  EXPECT_EQ(third.view().data, data);
  EXPECT_EQ(third.as<double>()[5], 5);
  Tensor& self = third;
  third = std::move(self);
  EXPECT_EQ(third.view().data, data);
}

TEST(Tensor, RefusesSizesThatCannotBe) {
  EXPECT_EQ(error_text([] {
              Tensor(DType::kF32, {2, -1});
            }),
            "a tensor of shape (2, -1) has a negative extent");
  constexpr std::int64_t kHuge = std::int64_t{1} << 40;
  EXPECT_EQ(error_text([] {
              Tensor(DType::kF32, {kHuge, kHuge});
            }),
            "a tensor of fp32 of shape (1099511627776, 1099511627776) has more than 2^62 bytes");
  EXPECT_EQ(error_text([] {
              Tensor(DType::kU8, {0, std::numeric_limits<std::int64_t>::max()});
            }),
            "a tensor of u8 of shape (0, 9223372036854775807) has more than 2^62 bytes");
  EXPECT_EQ(checked_bytes(DType::kF64, {3, 0, 4}), 0);
  EXPECT_EQ(checked_bytes(DType::kF16, {1 << 20, 1 << 20}), std::int64_t{1} << 41);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // these end the program instead
TEST(Tensor, SaysWhenTheHostIsOutOfMemory) {
  constexpr std::int64_t kTooMany = std::int64_t{1} << 60;
  EXPECT_EQ(error_text<OutOfMemoryError>([] { Tensor(DType::kU8, {kTooMany}); }),
            "out of host memory: 1152921504606846976 bytes were asked for");
}
#endif

TEST(CopyBlocking, CopiesBetweenTensors) {
  const Tensor from = iota_tensor({2, 3});
  Tensor to = poisoned_tensor({2, 3});
  copy_blocking(to, from);
  EXPECT_EQ(values_of(to), values_of(from));
}

TEST(CopyBlocking, CopiesNothingWhereThereIsNothing) {
  Tensor to(DType::kF64, {0, 3});
  EXPECT_NO_THROW(copy_blocking(to, Tensor(DType::kF64, {0, 3})));
  EXPECT_NO_THROW(copy_blocking(TensorView(), ConstTensorView()));
}

TEST(CopyBlocking, SaysWhatDiffers) {
  Tensor to(DType::kF64, {2, 3});
  const Tensor turned(DType::kF64, {3, 2});
  const Tensor narrow(DType::kF32, {2, 3});
  EXPECT_EQ(error_text([&] { copy_blocking(to, turned); }),
            "copy_blocking: to is fp64 (2, 3), from is fp64 (3, 2)");
  EXPECT_EQ(error_text([&] { copy_blocking(to, narrow); }),
            "copy_blocking: to is fp64 (2, 3), from is fp32 (2, 3)");
  EXPECT_EQ(error_text([&] { copy_blocking(to.view().narrowed(0, 1), to.view().narrowed(1, 1)); }),
            "copy_blocking: both views must be contiguous");
}

TEST(Copy, IsQueuedOnItsStream) {
  std::latch open(1);
  Tensor from = iota_tensor({2, 2});
  Tensor to = poisoned_tensor({2, 2});
  Stream stream(Device::cpu());
  stream.enqueue([&] {
    open.wait();
    from.as<double>()[3] = -3;
  });
  copy(to, from, stream);
  open.count_down();
  stream.synchronize_blocking();
  EXPECT_EQ(values_of(to), (std::vector<double>{0, 1, 2, -3}));
}

TEST(Copy, SaysWhatDiffers) {
  Stream stream(Device::cpu());
  Tensor to(DType::kF64, {2, 3});
  const Tensor turned(DType::kF64, {3, 2});
  EXPECT_EQ(error_text([&] { copy(to, turned, stream); }), "copy: to is fp64 (2, 3), from is fp64 (3, 2)");
  EXPECT_EQ(error_text([&] { copy(to.view().narrowed(0, 1), to.view().narrowed(1, 1), stream); }),
            "copy: both views must be contiguous");
  TensorView elsewhere = to;
  elsewhere.device = Device::cuda(0);
  EXPECT_EQ(error_text([&] { copy(to, elsewhere, stream); }),
            "copy: a CPU stream copies host memory, not from cuda:0 to cpu");
  EXPECT_NO_THROW(copy(TensorView(), ConstTensorView(), stream));
}

TEST(Tensor, StagingForTheCpuIsPlainMemory) {
  const Tensor tensor = Tensor::staging(DType::kI32, {3}, Device::cpu());
  EXPECT_TRUE(tensor.device().is_cpu());
  EXPECT_EQ(tensor.bytes(), 12);
  EXPECT_NE(tensor.as<std::int32_t>(), nullptr);
}

}  // namespace
}  // namespace flex::testing
