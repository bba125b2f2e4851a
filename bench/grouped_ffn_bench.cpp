// flex_grouped_ffn_bench [--dtype fp16|bf16|fp32] [--rows 1,2,...] [--runs N]
//
// Experts over their real rows (grouped_ffn) beside all padded rows (expert_ffn), at the same tokens: `even`;
// `hot`, one expert with 8 times the mean; `half`, half of the experts without any; `ragged`. Forward, and
// forward + backward, with the products one by one and grouped. Everything else as in flex_expert_ffn_bench.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/philox.h"
#include "base/require.h"
#include "bench/device_timer.h"
#include "bench/ffn_problem.h"
#include "kernels/moe/grouped_ffn.h"

namespace flex::bench {
namespace {

using Counts = std::vector<std::int64_t>;

// Rows of each expert, `mean` on average (but for rounding).
Counts counts_of(const std::string& kind, std::int64_t experts, std::int64_t mean) {
  Counts counts(static_cast<std::size_t>(experts), mean);
  if (kind == "hot" && experts > 1) {
    const std::int64_t hot = std::min<std::int64_t>(8, experts) * mean;
    std::ranges::fill(counts, (mean * experts - hot) / (experts - 1));
    counts[0] = hot;
  } else if (kind == "half") {
    for (std::size_t expert = 0; expert < counts.size(); ++expert)
      counts[expert] = expert % 2 == 0 ? 2 * mean : 0;
  } else if (kind == "ragged") {
    PhiloxStream random(7);
    for (std::int64_t& count : counts)
      count = static_cast<std::int64_t>(2.0 * random.uniform() * static_cast<double>(mean));
  }
  return counts;
}

struct Pass {
  Timing forward, both;
};

Pass time_grouped(FfnProblem& problem, GemmAlgorithms& gemm, const Counts& counts, DeviceTimer& timer,
                  Stream& stream) {
  auto forward = problem.forward();
  auto backward_data = problem.backward_data();
  auto backward_weights = problem.backward_weights();
  forward.gemm = backward_data.gemm = backward_weights.gemm = &gemm;
  const auto both = [&] {
    grouped_ffn(forward, counts, stream);
    grouped_ffn_backward_data(backward_data, counts, stream);
    grouped_ffn_backward_fc1(backward_weights, counts, stream);
    grouped_ffn_backward_fc2(backward_weights, counts, stream);
  };
  gemm.set_tune_unseen(true);
  both();
  gemm.set_tune_unseen(false);
  return {.forward = timer.time(stream, [&] { grouped_ffn(forward, counts, stream); }),
          .both = timer.time(stream, both)};
}

Pass time_padded(FfnProblem& problem, GemmAlgorithms& gemm, DeviceTimer& timer, Stream& stream) {
  const auto both = [&] {
    expert_ffn(problem.forward(), stream);
    expert_ffn_backward_data(problem.backward_data(), stream);
    expert_ffn_backward_fc1(problem.backward_weights(), stream);
    expert_ffn_backward_fc2(problem.backward_weights(), stream);
  };
  gemm.set_tune_unseen(true);
  both();
  gemm.set_tune_unseen(false);
  return {.forward = timer.time(stream, [&] { expert_ffn(problem.forward(), stream); }),
          .both = timer.time(stream, both)};
}

void print_pass(const char* name, const Pass& pass, const Pass& padded) {
  std::printf("    %-12s %9.3f ms  %6.2f x   %9.3f ms  %6.2f x\n", name, pass.forward.median_us * 1e-3,
              padded.forward.median_us / pass.forward.median_us, pass.both.median_us * 1e-3,
              padded.both.median_us / pass.both.median_us);
}

int run(const std::string& dtype_name, const std::vector<int>& chosen, int num_runs) {
  const auto dtype = parse_dtype(dtype_name);
  require(dtype.has_value(), "--dtype {}: use fp32, fp16 or bf16", dtype_name);
  const Device device = Device::cuda(0);
  Stream stream(device);
  DeviceTimer timer(device, num_runs);
  GemmAlgorithms one_by_one(device, {.group_method = GemmGroupMethod::kOneByOne});
  GemmAlgorithms grouped(device, {.group_method = GemmGroupMethod::kGrouped});
  GemmAlgorithms automatic(device);
  bool is_correct = true;
  for (const int number : chosen) {
    require(number >= 1 && number <= static_cast<int>(kTable.size()), "--rows {}: the table has rows 1 to {}",
            number, kTable.size());
    const FfnShape mean = kTable[static_cast<std::size_t>(number - 1)].shape;
    for (const char* kind : {"even", "hot", "half", "ragged"}) {
      const Counts counts = counts_of(kind, mean.experts, mean.rows);
      FfnShape shape = mean;
      shape.rows = *std::ranges::max_element(counts);
      FfnProblem problem(shape, *dtype, automatic, stream);
      const Pass padded = time_padded(problem, automatic, timer, stream);
      std::printf("row %d %s: %lld x %lld x %lld x %lld, mean %lld rows\n", number, kind,
                  static_cast<long long>(shape.experts), static_cast<long long>(shape.rows),
                  static_cast<long long>(shape.model_dim), static_cast<long long>(shape.hidden_dim),
                  static_cast<long long>(mean.rows));
      print_pass("padded", padded, padded);
      for (const auto& [name, gemm] : {std::pair<const char*, GemmAlgorithms*>{"one by one", &one_by_one},
                                       {"grouped", &grouped},
                                       {"auto", &automatic}}) {
        print_pass(name, time_grouped(problem, *gemm, counts, timer, stream), padded);
        stream.synchronize_blocking();
        const double error = problem.forward_error(counts) / problem.error_limit();
        if (error > 1.0) std::printf("    %s: error is %.2f of its limit\n", name, error);
        is_correct = is_correct && error <= 1.0;
      }
      std::fflush(stdout);
    }
  }
  return is_correct ? 0 : 1;
}

int run_program(int argc, char** argv) {
  CLI::App app("Experts over their real rows beside all padded rows");
  std::string dtype = "bf16";
  std::vector<int> rows = {1, 3, 5, 8};
  int num_runs = 20;
  app.add_option("--dtype", dtype, "fp32, fp16 or bf16");
  app.add_option("--rows", rows, "rows of the table, 1 to 9")->delimiter(',');
  app.add_option("--runs", num_runs, "timed runs of each piece")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  return run(dtype, rows, num_runs);
}

}  // namespace
}  // namespace flex::bench

int main(int argc, char** argv) {
  try {
    return flex::bench::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "flex_grouped_ffn_bench: %s\n", error.what());
    return 2;
  }
}
