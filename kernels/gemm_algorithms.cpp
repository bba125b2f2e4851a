#include "kernels/gemm_algorithms.h"

#include "base/require.h"

namespace flex {

std::string_view name(GemmEpilogue epilogue) {
  switch (epilogue) {
    case GemmEpilogue::kNone:
      return "none";
    case GemmEpilogue::kBias:
      return "bias";
    case GemmEpilogue::kRelu:
      return "relu";
    case GemmEpilogue::kReluBias:
      return "relu_bias";
    case GemmEpilogue::kRowSumsA:
      return "row_sums_a";
    case GemmEpilogue::kColumnSumsB:
      return "column_sums_b";
  }
  return "?";
}

std::string to_string(const GemmShape& shape) {
  const auto operand = [](std::int64_t rows, std::int64_t columns, bool transposed) {
    return transposed ? fmt::format("({} x {})^T", columns, rows) : fmt::format("({} x {})", rows, columns);
  };
  std::string text =
      fmt::format("{} {} x {} {}", name(shape.dtype), shape.batch,
                  operand(shape.m, shape.k, shape.transpose_a), operand(shape.k, shape.n, shape.transpose_b));
  if (shape.epilogue != GemmEpilogue::kNone) text += fmt::format(" {}", name(shape.epilogue));
  if (shape.accumulate) text += " accumulate";
  return text;
}

#ifndef FLEX_HAS_CUDA

struct GemmAlgorithms::Impl {};

namespace {
[[noreturn]] void fail_without_cuda() {
  fail<DeviceError>("GemmAlgorithms: this build is CPU-only; reconfigure with -DFLEX_CUDA=ON");
}
}  // namespace

GemmAlgorithms::GemmAlgorithms(Device /*device*/, const GemmOptions& /*options*/) { fail_without_cuda(); }
GemmAlgorithms::~GemmAlgorithms() = default;
void GemmAlgorithms::run(const GemmCall& /*call*/, Stream& /*stream*/) { fail_without_cuda(); }
bool GemmAlgorithms::run_if_supported(const GemmCall& /*call*/, Stream& /*stream*/) { fail_without_cuda(); }
bool GemmAlgorithms::supports(const GemmCall& /*call*/) { fail_without_cuda(); }
std::optional<bool> GemmAlgorithms::prefers_fused(const GemmCall& /*fused*/, const GemmCall& /*plain*/,
                                                  std::int64_t /*pass_bytes*/) {
  fail_without_cuda();
}
void GemmAlgorithms::run_group(std::span<const GemmCall> /*calls*/, Stream& /*stream*/) {
  fail_without_cuda();
}
bool GemmAlgorithms::runs_one_by_one(std::span<const GemmCall> /*calls*/) const { fail_without_cuda(); }
void GemmAlgorithms::tune_blocking(const GemmCall& /*call*/) { fail_without_cuda(); }
void GemmAlgorithms::set_tune_unseen(bool /*tune_unseen*/) { fail_without_cuda(); }
bool GemmAlgorithms::tunes_unseen() const { return false; }
std::optional<double> GemmAlgorithms::measured_us(const GemmCall& /*call*/) const { fail_without_cuda(); }
std::vector<GemmAlgorithmRow> GemmAlgorithms::export_rows() const { fail_without_cuda(); }
std::int64_t GemmAlgorithms::import_rows(std::span<const GemmAlgorithmRow> /*rows*/) { fail_without_cuda(); }
Device GemmAlgorithms::device() const { fail_without_cuda(); }
const GemmOptions& GemmAlgorithms::options() const { fail_without_cuda(); }
TensorView GemmAlgorithms::workspace() const { fail_without_cuda(); }
std::int64_t GemmAlgorithms::num_preparations() const { fail_without_cuda(); }

#endif

}  // namespace flex
