// flex_expert_ffn_bench [--dtype fp16|bf16|fp32] [--rows 1,2,...] [--runs N] [--untuned] [--tf32] [--json
// FILE]
//
// The experts of the nine layers of the H200 table, relu: forward, and forward + backward, beside `bmm`, the
// two plain batched products of the forward pass, which is the floor. Medians by CUDA events, the L2 flushed
// before each run, the algorithms tuned first, y checked on sampled rows. Exit status 1 if a check fails.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/require.h"
#include "bench/device_timer.h"
#include "bench/ffn_problem.h"

namespace flex::bench {
namespace {

struct Settings {
  std::string dtype = "fp16";
  std::vector<int> rows;
  int num_runs = 30;
  bool is_tuned = true;
  bool allow_tf32 = false;
  std::string json_file;
};

struct Result {
  Timing bmm, forward, backward_data, backward_weights, both;
  double fused_first_us = 0.0;   // fc1 with its epilogue, as the timed search saw it; 0: not supported
  double plain_first_us = 0.0;   // fc1 without
  double fused_second_us = 0.0;  // fc2 likewise
  double plain_second_us = 0.0;
  double sums_fused_us = 0.0;  // dfc1_w with the bias gradient as its epilogue; 0: not supported
  double sums_plain_us = 0.0;
  double error = 0.0;
};

double searched_us(GemmAlgorithms& gemm, GemmCall call, GemmEpilogue epilogue, std::int64_t stride) {
  call.shape.epilogue = epilogue;
  call.shape.vector_stride = stride;
  gemm.tune_blocking(call);
  return gemm.measured_us(call).value_or(0.0);
}

Result run_row(const FfnShape& shape, const Settings& settings, GemmAlgorithms& gemm, Stream& stream) {
  FfnProblem problem(shape, *parse_dtype(settings.dtype), gemm, stream);
  DeviceTimer timer(stream.device(), settings.num_runs);
  Result result;
  if (settings.is_tuned) {
    for (const GemmCall& call : problem.all_products()) gemm.tune_blocking(call);
    gemm.set_tune_unseen(true);
    expert_ffn(problem.forward(), stream);
    expert_ffn_backward_data(problem.backward_data(), stream);
    expert_ffn_backward_fc1(problem.backward_weights(), stream);
    expert_ffn_backward_fc2(problem.backward_weights(), stream);
    gemm.set_tune_unseen(false);
    const std::vector<GemmCall> calls = problem.all_products();
    result.plain_first_us = gemm.measured_us(calls[0]).value_or(0.0);
    result.plain_second_us = gemm.measured_us(calls[1]).value_or(0.0);
    result.sums_plain_us = gemm.measured_us(calls[4]).value_or(0.0);
    result.fused_first_us = searched_us(gemm, calls[0], GemmEpilogue::kReluBias, shape.hidden_dim);
    result.fused_second_us = searched_us(gemm, calls[1], GemmEpilogue::kBias, shape.model_dim);
    result.sums_fused_us = searched_us(gemm, calls[4], GemmEpilogue::kRowSumsA, shape.hidden_dim);
  }
  expert_ffn(problem.forward(), stream);
  stream.synchronize_blocking();
  const std::vector<std::int64_t> all_rows(static_cast<std::size_t>(shape.experts), shape.rows);
  result.error = problem.forward_error(all_rows) / problem.error_limit();

  result.forward = timer.time(stream, [&] { expert_ffn(problem.forward(), stream); });
  result.backward_data =
      timer.time(stream, [&] { expert_ffn_backward_data(problem.backward_data(), stream); });
  result.backward_weights = timer.time(stream, [&] {
    expert_ffn_backward_fc1(problem.backward_weights(), stream);
    expert_ffn_backward_fc2(problem.backward_weights(), stream);
  });
  result.both = timer.time(stream, [&] {
    expert_ffn(problem.forward(), stream);
    expert_ffn_backward_data(problem.backward_data(), stream);
    expert_ffn_backward_fc1(problem.backward_weights(), stream);
    expert_ffn_backward_fc2(problem.backward_weights(), stream);
  });
  result.bmm = timer.time(stream, [&] {
    for (const GemmCall& call : problem.plain_products()) gemm.run(call, stream);
  });
  return result;
}

nlohmann::json to_json(const Timing& timing) {
  return {{"median_us", timing.median_us}, {"low_us", timing.low_us}, {"high_us", timing.high_us}};
}

nlohmann::json to_json(const TableRow& row, const Settings& settings, const Result& result) {
  return {{"dtype", settings.dtype},
          {"experts", row.shape.experts},
          {"rows", row.shape.rows},
          {"model_dim", row.shape.model_dim},
          {"hidden_dim", row.shape.hidden_dim},
          {"published_bmm_us", row.published_bmm_ms * 1e3},
          {"bmm", to_json(result.bmm)},
          {"forward", to_json(result.forward)},
          {"backward_data", to_json(result.backward_data)},
          {"backward_weights", to_json(result.backward_weights)},
          {"forward_and_backward", to_json(result.both)},
          {"first_product_fused_us", result.fused_first_us},
          {"first_product_plain_us", result.plain_first_us},
          {"second_product_fused_us", result.fused_second_us},
          {"second_product_plain_us", result.plain_second_us},
          {"weight_product_fused_us", result.sums_fused_us},
          {"weight_product_plain_us", result.sums_plain_us},
          {"error_over_limit", result.error}};
}

void print_header() {
  std::printf("%4s %24s %8s %8s %8s %6s %7s %8s %8s %8s %6s %16s %16s %16s %6s\n", "row", "L x R x M x F",
              "bmm_pub", "bmm ms", "fwd ms", "/bmm", "TFLOP/s", "bdata ms", "bwght ms", "f+b ms", "/3bmm",
              "fc1 fused/plain", "fc2 fused/plain", "dW fused/plain", "error");
}

void print_row(int number, const TableRow& row, const Result& result, double flop) {
  const auto& s = row.shape;
  const std::string shape = fmt::format("{} x {} x {} x {}", s.experts, s.rows, s.model_dim, s.hidden_dim);
  const auto pair = [](double fused_us, double plain_us) {
    return fmt::format("{:.0f}/{:.0f}", fused_us, plain_us);
  };
  const double bmm_us = result.bmm.median_us;
  std::printf("%4d %24s %8.3f %8.3f %8.3f %6.3f %7.1f %8.3f %8.3f %8.3f %6.3f %16s %16s %16s %6.2f\n", number,
              shape.c_str(), row.published_bmm_ms, bmm_us * 1e-3, result.forward.median_us * 1e-3,
              result.forward.median_us / bmm_us, flop / result.forward.median_us * 1e-6,
              result.backward_data.median_us * 1e-3, result.backward_weights.median_us * 1e-3,
              result.both.median_us * 1e-3, result.both.median_us / (3.0 * bmm_us),
              pair(result.fused_first_us, result.plain_first_us).c_str(),
              pair(result.fused_second_us, result.plain_second_us).c_str(),
              pair(result.sums_fused_us, result.sums_plain_us).c_str(), result.error);
}

int run(const Settings& settings) {
  require(parse_dtype(settings.dtype).has_value(), "--dtype {}: use fp32, fp16 or bf16", settings.dtype);
  Stream stream(Device::cuda(0));
  GemmAlgorithms gemm(Device::cuda(0), {.allow_tf32 = settings.allow_tf32});
  nlohmann::json rows = nlohmann::json::array();
  bool is_correct = true;
  print_header();
  for (int number = 1; number <= static_cast<int>(kTable.size()); ++number) {
    if (!settings.rows.empty() && std::ranges::find(settings.rows, number) == settings.rows.end()) continue;
    const TableRow& row = kTable[static_cast<std::size_t>(number - 1)];
    const Result result = run_row(row.shape, settings, gemm, stream);
    const auto& s = row.shape;
    print_row(number, row, result,
              4.0 * static_cast<double>(s.experts * s.rows * s.model_dim * s.hidden_dim));
    std::fflush(stdout);
    rows.push_back(to_json(row, settings, result));
    is_correct = is_correct && result.error <= 1.0;
  }
  if (!settings.json_file.empty()) write_json_file(settings.json_file, rows);
  return is_correct ? 0 : 1;
}

int run_program(int argc, char** argv) {
  Settings settings;
  CLI::App app("Experts of the H200 table beside their plain batched products");
  bool is_untuned = false;
  app.add_option("--dtype", settings.dtype, "fp32, fp16 or bf16");
  app.add_option("--rows", settings.rows, "rows of the table, 1 to 9")->delimiter(',');
  app.add_option("--runs", settings.num_runs, "timed runs of each piece")->check(CLI::PositiveNumber);
  app.add_flag("--untuned", is_untuned, "the library's first suggestions");
  app.add_flag("--tf32", settings.allow_tf32, "fp32 products may use TF32");
  app.add_option("--json", settings.json_file, "also write results there");
  CLI11_PARSE(app, argc, argv);
  settings.is_tuned = !is_untuned;
  return run(settings);
}

}  // namespace
}  // namespace flex::bench

int main(int argc, char** argv) {
  try {
    return flex::bench::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "flex_expert_ffn_bench: %s\n", error.what());
    return 2;
  }
}
