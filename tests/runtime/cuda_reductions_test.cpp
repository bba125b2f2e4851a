#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/runtime/cuda_ranks.h"

/// The arithmetic of reductions on a GPU, of in-process ranks and of NCCL's.
namespace flex::testing {
namespace {

class CudaReductions : public CudaRanks {
 protected:
  static void run(const std::function<void(Communicator&)>& body) {
    run_cuda_ranks({GetParam(), 2}, kPatient, body);
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, CudaReductions, ::testing::Values(1, 2, 4, 8));

constexpr DType kReduced[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64, DType::kI32};

double rounded(double value, DType dtype) {
  std::int64_t storage = 0;
  store_value(&storage, 0, dtype, value);
  return load_value(&storage, 0, dtype);
}

/// `count` terms of `rank`. Of sums of these, every order but rank order rounds otherwise here and there.
std::vector<double> terms(int rank, std::int64_t count, DType dtype) {
  auto values = random_uniform(count, 100U + static_cast<unsigned>(rank), -1000.0, 1000.0);
  for (double& value : values) value = rounded(value, dtype);
  return values;
}

/// What the header of reduce_in_rank_order_cuda promises, bit by bit.
double reduced(const std::vector<std::vector<double>>& inputs, std::size_t i, DType dtype, ReduceOp op) {
  double result = inputs[0][i];
  for (std::size_t rank = 1; rank < inputs.size(); ++rank) {
    const double value = inputs[rank][i];
    if (op == ReduceOp::kMax) {
      result = std::max(result, value);
    } else if (is_floating(dtype) && dtype != DType::kF64) {
      result = static_cast<float>(result) + static_cast<float>(value);
    } else {
      result += value;
    }
  }
  return rounded(result, dtype);
}

/// `values` between poison, so that they begin at element `offset`.
std::vector<double> padded(const std::vector<double>& values, std::int64_t offset) {
  std::vector<double> all(static_cast<std::size_t>(offset), kPoison);
  all.insert(all.end(), values.begin(), values.end());
  all.insert(all.end(), 3, kPoison);
  return all;
}

TEST_P(CudaReductions, AllReduceReducesInRankOrderEveryTypeAtEveryAlignment) {
  run([](Communicator& world) {
    Stream stream(kGpu);
    for (const DType dtype : kReduced) {
      for (const std::int64_t count : {0, 1, 7, 63, 5003}) {
        std::vector<std::vector<double>> inputs;
        for (int rank = 0; rank < world.size(); ++rank) inputs.push_back(terms(rank, count, dtype));
        for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
          std::vector<double> expected;
          for (std::size_t i = 0; i < inputs[0].size(); ++i)
            expected.push_back(reduced(inputs, i, dtype, op));
          // Element 8 is a multiple of 16 bytes in every type; 3 on one rank alone makes all read by
          // elements.
          for (const std::int64_t offset : {8, world.rank() == 0 ? 3 : 8}) {
            Tensor data = on_gpu(padded(inputs[static_cast<std::size_t>(world.rank())], offset), dtype);
            world.all_reduce(at(data, offset), count, dtype, op, Traffic::kGate, stream);
            EXPECT_EQ(after(stream, data), padded(expected, offset))
                << name(dtype) << " " << count << " at " << offset;
          }
        }
      }
    }
  });
}

TEST_P(CudaReductions, ReduceScatterSumsInRankOrderAlsoInPlace) {
  run([](Communicator& world) {
    Stream stream(kGpu);
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
      for (const std::int64_t count : {0, 1, 1000, 2501}) {
        std::vector<std::vector<double>> inputs;
        for (int rank = 0; rank < world.size(); ++rank) {
          inputs.push_back(terms(rank, count * world.size(), dtype));
        }
        const std::vector<double>& mine = inputs[static_cast<std::size_t>(world.rank())];
        std::vector<double> expected;
        std::vector<double> expected_in_place = mine;
        for (std::int64_t i = 0; i < count; ++i) {
          const auto element = static_cast<std::size_t>(world.rank() * count + i);
          expected.push_back(reduced(inputs, element, dtype, ReduceOp::kSum));
          expected_in_place[element] = expected.back();
        }
        Tensor send = on_gpu(mine, dtype);
        Tensor recv = poisoned_on_gpu(count, dtype);
        world.reduce_scatter(send.as<void>(), recv.as<void>(), count, dtype, Traffic::kGradients, stream);
        world.reduce_scatter(send.as<void>(), at(send, world.rank() * count), count, dtype,
                             Traffic::kGradients, stream);
        EXPECT_EQ(after(stream, recv), expected) << name(dtype) << " " << count;
        EXPECT_EQ(values_of(send), expected_in_place) << name(dtype) << " " << count << " in place";
      }
    }
  });
}

TEST_P(CudaReductions, AllReducePassesNanOnWhoeverHasIt) {
  run([](Communicator& world) {
    Stream stream(kGpu);
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
        std::vector<double> values(static_cast<std::size_t>(world.size() + 1), 1.0);
        values[static_cast<std::size_t>(world.rank())] = std::numeric_limits<double>::quiet_NaN();
        Tensor data = on_gpu(values, dtype);
        world.all_reduce(data.as<void>(), std::ssize(values), dtype, op, Traffic::kGate, stream);
        const std::vector<double> result = after(stream, data);
        for (int i = 0; i < world.size(); ++i) EXPECT_TRUE(std::isnan(result[static_cast<std::size_t>(i)]));
        EXPECT_EQ(result.back(), op == ReduceOp::kSum ? world.size() : 1.0) << name(dtype);
      }
    }
  });
}

}  // namespace
}  // namespace flex::testing
