#include "kernels/gemm_algorithms.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include "kernels/gemm_scratch.h"
#include "tests/support/count_allocations.h"
#include "tests/support/cuda.h"

namespace flex::testing {
namespace {

const std::vector<DType> kDTypes = {DType::kF32, DType::kF16, DType::kBF16};

class GemmAlgorithmsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    FLEX_SKIP_WITHOUT_CUDA();
    stream_.emplace(device());
    gemm_.emplace(device());
  }
  [[nodiscard]] static Device device() { return Device::cuda(0); }
  [[nodiscard]] Stream& stream() { return *stream_; }
  [[nodiscard]] GemmAlgorithms& gemm() { return *gemm_; }
  void wait() { stream_->synchronize_blocking(); }

 private:
  std::optional<Stream> stream_;
  std::optional<GemmAlgorithms> gemm_;
};

// Operands of a product without gaps, and what it should give.
struct GemmCase {
  GemmShape shape;
  Tensor a, b, d, vector;

  explicit GemmCase(GemmShape wanted) : shape(wanted) {
    const Device device = Device::cuda(0);
    shape.stride_a = shape.m * shape.k;
    shape.stride_b = shape.k * shape.n;
    shape.stride_d = shape.m * shape.n;
    const bool sums_rows = shape.epilogue == GemmEpilogue::kRowSumsA;
    shape.vector_stride = sums_rows ? shape.m : shape.n;
    a = random_tensor({shape.batch, shape.m * shape.k}, 1, shape.dtype, device);
    b = random_tensor({shape.batch, shape.k * shape.n}, 2, shape.dtype, device);
    d = random_tensor({shape.batch, shape.m * shape.n}, 3, shape.dtype, device);
    vector = random_tensor({shape.batch, shape.vector_stride}, 4, shape.dtype, device);
  }
  [[nodiscard]] GemmCall call() {
    return {.shape = shape,
            .a = a.view().data,
            .b = b.view().data,
            .d = d.view().data,
            .bias = vector.view().data,
            .sums = vector.view().data};
  }
  // In double from the rounded operands; to be called before the product runs.
  [[nodiscard]] std::vector<double> expected() const {
    const std::vector<double> as = values_of(a);
    const std::vector<double> bs = values_of(b);
    const std::vector<double> bias = values_of(vector);
    std::vector<double> result = values_of(d);
    for (std::int64_t e = 0; e < shape.batch; ++e) {
      for (std::int64_t i = 0; i < shape.m; ++i) {
        for (std::int64_t j = 0; j < shape.n; ++j) {
          double sum = 0.0;
          for (std::int64_t l = 0; l < shape.k; ++l) {
            sum += as[e * shape.stride_a + (shape.transpose_a ? l * shape.m + i : i * shape.k + l)] *
                   bs[e * shape.stride_b + (shape.transpose_b ? j * shape.k + l : l * shape.n + j)];
          }
          const std::string_view epilogue = name(shape.epilogue);
          if (epilogue.ends_with("bias")) sum += bias[e * shape.vector_stride + j];
          if (epilogue.starts_with("relu")) sum = std::max(sum, 0.0);
          double& element = result[e * shape.stride_d + i * shape.n + j];
          element = shape.accumulate ? element + sum : sum;
        }
      }
    }
    return result;
  }
  [[nodiscard]] double tolerance() const { return product_tolerance(shape.dtype, shape.k + 1); }
};

TEST_F(GemmAlgorithmsTest, ProductsMatchDouble) {
  for (const DType dtype : kDTypes) {
    for (const auto& [m, n, k, batch] :
         {std::array<std::int64_t, 4>{1, 1, 1, 1}, {5, 7, 3, 3}, {33, 65, 31, 2}, {64, 96, 128, 4}}) {
      for (int flags = 0; flags < 8; ++flags) {
        GemmCase product({.dtype = dtype,
                          .transpose_a = (flags & 1) != 0,
                          .transpose_b = (flags & 2) != 0,
                          .m = m,
                          .n = n,
                          .k = k,
                          .batch = batch,
                          .accumulate = (flags & 4) != 0});
        const std::vector<double> expected = product.expected();
        gemm().run(product.call(), stream());
        wait();
        EXPECT_TRUE(close(values_of(product.d), expected, product.tolerance())) << to_string(product.shape);
      }
    }
  }
}

TEST_F(GemmAlgorithmsTest, EpiloguesMatchDoubleWhereTheLibraryHasThem) {
  for (const DType dtype : kDTypes) {
    for (const GemmEpilogue epilogue : {GemmEpilogue::kBias, GemmEpilogue::kRelu, GemmEpilogue::kReluBias}) {
      for (const std::int64_t batch : {1, 4}) {
        GemmCase product({.dtype = dtype,
                          .transpose_b = true,
                          .m = 96,
                          .n = 128,
                          .k = 64,
                          .batch = batch,
                          .epilogue = epilogue});
        const std::vector<double> expected = product.expected();
        if (!gemm().run_if_supported(product.call(), stream())) {
          RecordProperty(to_string(product.shape), "not supported");
          continue;
        }
        wait();
        EXPECT_TRUE(close(values_of(product.d), expected, product.tolerance())) << to_string(product.shape);
      }
    }
  }
}

TEST_F(GemmAlgorithmsTest, SumsOfOperandsMatchDoubleWhereTheLibraryHasThem) {
  for (const GemmEpilogue epilogue : {GemmEpilogue::kRowSumsA, GemmEpilogue::kColumnSumsB}) {
    for (const std::int64_t batch : {1, 4}) {
      GemmCase product({.dtype = DType::kBF16,
                        .transpose_a = true,
                        .m = 128,
                        .n = 96,
                        .k = 64,
                        .batch = batch,
                        .epilogue = epilogue});
      if (!gemm().run_if_supported(product.call(), stream())) {
        RecordProperty(to_string(product.shape), "not supported");
        continue;
      }
      wait();
      const bool of_a = epilogue == GemmEpilogue::kRowSumsA;
      const std::vector<double> operand = values_of(of_a ? product.a : product.b);
      const std::int64_t columns = of_a ? 128 : 96;
      std::vector<double> expected(static_cast<std::size_t>(batch * columns), 0.0);
      for (std::size_t i = 0; i < operand.size(); ++i) {
        const auto row = static_cast<std::int64_t>(i) / columns;
        expected[row / 64 * columns + static_cast<std::int64_t>(i) % columns] += operand[i];
      }
      EXPECT_TRUE(close(values_of(product.vector), expected, product.tolerance()))
          << to_string(product.shape);
    }
  }
}

// The test of a choice needs two measured products, whose times it does not know.
TEST_F(GemmAlgorithmsTest, FusedIsPreferredByTheTimeThatItSaves) {
  GemmCase plain({.dtype = DType::kBF16, .transpose_b = true, .m = 256, .n = 256, .k = 256});
  GemmCase fused = GemmCase({.dtype = DType::kBF16,
                             .transpose_b = true,
                             .m = 256,
                             .n = 256,
                             .k = 256,
                             .epilogue = GemmEpilogue::kRelu});
  constexpr std::int64_t kLong = std::int64_t{1} << 40;  // 0.2 s at the least
  EXPECT_EQ(gemm().prefers_fused(fused.call(), plain.call(), kLong), std::nullopt);
  gemm().set_tune_unseen(true);
  EXPECT_EQ(gemm().prefers_fused(fused.call(), plain.call(), kLong), true);
  gemm().set_tune_unseen(false);
  EXPECT_EQ(gemm().prefers_fused(fused.call(), plain.call(), -kLong), false);
  GemmCall empty = fused.call();
  empty.shape.m = 0;
  EXPECT_EQ(gemm().prefers_fused(empty, plain.call(), kLong), false);
}

TEST_F(GemmAlgorithmsTest, EmptyProductsDoNothingAndEmptySumsAreZero) {
  GemmCase product({.m = 4, .n = 3, .k = 5, .batch = 2});
  GemmCall call = product.call();
  const std::vector<double> before = values_of(product.d);
  call.shape.m = 0;
  gemm().run(call, stream());
  wait();
  EXPECT_EQ(values_of(product.d), before);
  call = product.call();
  call.shape.k = 0;
  gemm().run(call, stream());
  wait();
  EXPECT_EQ(values_of(product.d), std::vector<double>(24, 0.0));
  call.shape.epilogue = GemmEpilogue::kRelu;
  EXPECT_FALSE(gemm().run_if_supported(call, stream()));
}

// Allocations from a stream's pool are captured, as nodes.
void expect_no_allocations(cudaGraph_t graph) {
  std::size_t count = 0;
  ASSERT_EQ(cudaGraphGetNodes(graph, nullptr, &count), cudaSuccess);
  std::vector<cudaGraphNode_t> nodes(count);
  ASSERT_EQ(cudaGraphGetNodes(graph, nodes.data(), &count), cudaSuccess);
  for (const cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type = cudaGraphNodeTypeKernel;
    ASSERT_EQ(cudaGraphNodeGetType(node, &type), cudaSuccess);
    EXPECT_NE(type, cudaGraphNodeTypeMemAlloc);
  }
}

TEST_F(GemmAlgorithmsTest, RepeatGivesEqualBitsAndPreparesNothing) {
  for (const DType dtype : kDTypes) {
    GemmCase product({.dtype = dtype, .transpose_a = true, .m = 256, .n = 512, .k = 8192, .batch = 2});
    gemm().run(product.call(), stream());
    wait();
    const std::vector<double> first = values_of(product.d);
    const std::int64_t prepared = gemm().num_preparations();
    gemm().run(product.call(), stream());
    wait();
    EXPECT_EQ(values_of(product.d), first) << name(dtype);

    // In a capture CUDA refuses to allocate, to free and to wait. (Free memory before and after, which other
    // processes change too, would not tell.)
    auto* native = static_cast<cudaStream_t>(stream().native());
    ASSERT_EQ(cudaStreamBeginCapture(native, cudaStreamCaptureModeGlobal), cudaSuccess);
    const std::int64_t allocations = num_allocations();
    for (int i = 0; i < 10; ++i) gemm().run(product.call(), stream());
    RecordProperty("host_allocations_of_10_launches", std::to_string(num_allocations() - allocations));
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamEndCapture(native, &graph), cudaSuccess);
    EXPECT_EQ(gemm().num_preparations(), prepared);
    expect_no_allocations(graph);
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, native), cudaSuccess);
    wait();
    EXPECT_EQ(values_of(product.d), first) << name(dtype);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
}

TEST_F(GemmAlgorithmsTest, UnseenShapeRunsWithoutASearch) {
  GemmCase product({.dtype = DType::kBF16, .m = 384, .n = 256, .k = 128});
  gemm().run(product.call(), stream());
  wait();
  EXPECT_EQ(gemm().measured_us(product.call()), std::nullopt);
  EXPECT_TRUE(gemm().export_rows().empty());
}

TEST_F(GemmAlgorithmsTest, RowsOfOneBucketShareWhatWasFound) {
  GemmCase product({.dtype = DType::kBF16, .m = 384, .n = 256, .k = 128, .batch = 2});
  gemm().tune_blocking(product.call());
  ASSERT_TRUE(gemm().measured_us(product.call()).has_value());
  GemmCase same_bucket({.dtype = DType::kBF16, .m = 500, .n = 256, .k = 128, .batch = 2});
  EXPECT_EQ(gemm().measured_us(same_bucket.call()), gemm().measured_us(product.call()));
  GemmCase next_bucket({.dtype = DType::kBF16, .m = 512, .n = 256, .k = 128, .batch = 2});
  EXPECT_EQ(gemm().measured_us(next_bucket.call()), std::nullopt);
  const std::vector<double> expected = same_bucket.expected();
  gemm().run(same_bucket.call(), stream());
  wait();
  EXPECT_TRUE(close(values_of(same_bucket.d), expected, same_bucket.tolerance()));
}

TEST_F(GemmAlgorithmsTest, RowsReadBackAsTheyWereWritten) {
  GemmCase product({.dtype = DType::kF16, .transpose_b = true, .m = 256, .n = 256, .k = 256, .batch = 2});
  gemm().set_tune_unseen(true);
  gemm().run(product.call(), stream());
  gemm().set_tune_unseen(false);
  wait();
  const std::vector<double> tuned = values_of(product.d);
  const std::vector<GemmAlgorithmRow> rows = gemm().export_rows();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows.front().algorithm.size(), 128U);
  EXPECT_GT(rows.front().measured_us, 0.0);

  GemmAlgorithms other(device());
  EXPECT_EQ(other.import_rows(rows), 1);
  EXPECT_EQ(other.export_rows(), rows);
  other.run(product.call(), stream());
  wait();
  EXPECT_EQ(values_of(product.d), tuned) << "the same algorithm gives the same bits";
}

TEST_F(GemmAlgorithmsTest, RowsThatDoNotFitAreIgnored) {
  GemmCase product({.dtype = DType::kF16, .m = 256, .n = 256, .k = 256});
  gemm().tune_blocking(product.call());
  const GemmAlgorithmRow good = gemm().export_rows().front();
  std::vector<GemmAlgorithmRow> rows(5, good);
  rows[0].device = "Abacus 1000";
  rows[1].library_version += 1;
  rows[2].algorithm.pop_back();
  rows[3].algorithm[0] = 'g';
  rows[4].measured_us = std::nan("");
  GemmAlgorithms other(device());
  EXPECT_EQ(other.import_rows(rows), 0);

  // One that was found for another type: refused, it gives way to the first suggestion.
  GemmAlgorithms wide(device());
  GemmCase fp32({.m = 256, .n = 256, .k = 256});
  wide.tune_blocking(fp32.call());
  GemmAlgorithmRow mistaken = good;
  mistaken.algorithm = wide.export_rows().front().algorithm;
  EXPECT_EQ(other.import_rows({&mistaken, 1}), 1);
  const std::vector<double> expected = product.expected();
  other.run(product.call(), stream());
  wait();
  EXPECT_TRUE(close(values_of(product.d), expected, product.tolerance()));
}

// Median of 21 runs in microseconds.
double time_us(GemmAlgorithms& gemm, const GemmCall& call, Stream& stream) {
  std::vector<double> runs_us;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  EXPECT_EQ(cudaEventCreate(&begin), cudaSuccess);
  EXPECT_EQ(cudaEventCreate(&end), cudaSuccess);
  auto* native = static_cast<cudaStream_t>(stream.native());
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(cudaEventRecord(begin, native), cudaSuccess);
    gemm.run(call, stream);
    EXPECT_EQ(cudaEventRecord(end, native), cudaSuccess);
    stream.synchronize_blocking();
    float elapsed_ms = 0.0F;
    EXPECT_EQ(cudaEventElapsedTime(&elapsed_ms, begin, end), cudaSuccess);
    if (i >= 3) runs_us.push_back(static_cast<double>(elapsed_ms) * 1e3);  // after the warm-up
  }
  EXPECT_EQ(cudaEventDestroy(begin), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(end), cudaSuccess);
  std::sort(runs_us.begin(), runs_us.end());
  return runs_us[runs_us.size() / 2];
}

TEST_F(GemmAlgorithmsTest, TunedIsNotSlowerThanTheFirstSuggestion) {
  GemmAlgorithms untuned(device());
  for (const auto& [m, n, k, batch] :
       {std::array<std::int64_t, 4>{4096, 4096, 4096, 2}, {256, 2048, 2048, 64}, {490, 2048, 512, 32}}) {
    GemmShape shape{.dtype = DType::kBF16, .transpose_b = true, .m = m, .n = n, .k = k, .batch = batch};
    shape.stride_a = m * k;
    shape.stride_b = n * k;
    shape.stride_d = m * n;
    Tensor a(shape.dtype, {batch, m, k}, device());
    Tensor b(shape.dtype, {batch, n, k}, device());
    Tensor d(shape.dtype, {batch, m, n}, device());
    fill_uniform_cuda(a.view().data, shape.dtype, a.num_elements(), 1, stream().native());
    fill_uniform_cuda(b.view().data, shape.dtype, b.num_elements(), 2, stream().native());
    const GemmCall call{.shape = shape, .a = a.view().data, .b = b.view().data, .d = d.view().data};
    gemm().tune_blocking(call);
    const double tuned_us = time_us(gemm(), call, stream());
    const double first_us = time_us(untuned, call, stream());
    // 5% for the clock, which is not the same in both measurements.
    EXPECT_LE(tuned_us, 1.05 * first_us) << to_string(shape);
  }
}

TEST_F(GemmAlgorithmsTest, GroupsMatchDoubleByEitherMethod) {
  for (const DType dtype : kDTypes) {
    for (const GemmGroupMethod method : {GemmGroupMethod::kOneByOne, GemmGroupMethod::kGrouped}) {
      GemmAlgorithms grouping(device(), {.group_method = method});
      for (const bool transpose_a : {false, true}) {
        std::vector<GemmCase> products;
        std::vector<GemmCall> calls;
        std::vector<std::vector<double>> expected;
        for (const std::int64_t rows : {17, 0, 128, 1, 300}) {
          products.emplace_back(GemmShape{.dtype = dtype,
                                          .transpose_a = transpose_a,
                                          .transpose_b = !transpose_a,
                                          .m = transpose_a ? 40 : rows,
                                          .n = 72,
                                          .k = transpose_a ? rows : 40});
        }
        for (GemmCase& product : products) {
          calls.push_back(product.call());
          expected.push_back(product.expected());
        }
        grouping.run_group(calls, stream());
        wait();
        for (std::size_t i = 0; i < products.size(); ++i) {
          EXPECT_TRUE(close(values_of(products[i].d), expected[i], products[i].tolerance()))
              << to_string(products[i].shape) << ", method " << static_cast<int>(method);
        }
      }
    }
  }
}

TEST_F(GemmAlgorithmsTest, Tf32IsASetting) {
  GemmAlgorithms rounding(device(), {.allow_tf32 = true});
  GemmCase product({.m = 256, .n = 256, .k = 1024});
  const std::vector<double> expected = product.expected();
  gemm().run(product.call(), stream());
  wait();
  const double exact_error = max_relative_error(values_of(product.d), expected);
  rounding.run(product.call(), stream());
  wait();
  const double tf32_error = max_relative_error(values_of(product.d), expected);
  EXPECT_LT(exact_error, 1e-6);
  EXPECT_LT(tf32_error, 2e-3);  // 10 bits of fraction in both operands
  EXPECT_GT(tf32_error, 10.0 * exact_error) << "TF32 is not in use";
}

TEST(GemmShapeText, NamesTheProduct) {
  EXPECT_EQ(to_string(GemmShape{.dtype = DType::kBF16,
                                .transpose_b = true,
                                .m = 8,
                                .n = 4,
                                .k = 2,
                                .batch = 3,
                                .epilogue = GemmEpilogue::kReluBias}),
            "bf16 3 x (8 x 2) (4 x 2)^T relu_bias");
}

}  // namespace
}  // namespace flex::testing
