#include "cli/model_bench.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "cli/progress.h"
#include "cli/table.h"
#include "models/model_benchmark.h"
#include "runtime/device_memory_peak.h"

namespace flex::cli {
namespace {

struct Result {
  std::string ranks_text;
  ModelMeasurement measured;
  std::optional<std::int64_t> device_memory_bytes;
  std::optional<DeviceCeilings> ceilings;  ///< of the CUDA device of a single rank
  double matrix_share = 0;                 ///< with ceilings
};

constexpr std::size_t kShownOperations = 10;

double share_of(const OperationShare& operation, const ModelMeasurement& measured) {
  double total_us = 0;
  for (const OperationShare& one : measured.operations) total_us += one.total_us;
  return operation.total_us / total_us;
}

void print_json(const ModelFile& file, const ModelBenchOptions& options, const Result& result) {
  const ModelMeasurement& m = result.measured;
  nlohmann::ordered_json json = {{"model", file.model.name},
                                 {"communicator", result.ranks_text},
                                 {"pass", options.trains ? "training" : "inference"},
                                 {"dtype", name(file.training.dtype)},
                                 {"batch_size", file.training.batch_size},
                                 {"median_us", m.median_us},
                                 {"step_us", m.step_us},
                                 {"images_per_s", m.images_per_s},
                                 {"parameter_bytes", m.parameter_bytes},
                                 {"optimizer_bytes", m.optimizer_bytes},
                                 {"activation_bytes", m.activation_bytes}};
  if (result.device_memory_bytes) json["peak_device_memory_bytes"] = *result.device_memory_bytes;
  if (result.ceilings) {
    json["copy_GBps"] = result.ceilings->copy_GBps;
    json["matrix_TFLOPs"] = result.ceilings->matrix_TFLOPs;
    json["share_of_matrix"] = result.matrix_share;
  }
  for (const OperationShare& operation : m.operations) {
    const KernelWork work = operation.total_work();
    nlohmann::ordered_json row = {{"name", operation.name},
                                  {"count", operation.count},
                                  {"total_us", operation.total_us},
                                  {"share", share_of(operation, m)},
                                  {"multiply_accumulates", work.multiply_accumulates},
                                  {"bytes", work.bytes}};
    if (result.ceilings) row["floor_us"] = floor_us(operation, *result.ceilings);
    json["operations"].push_back(std::move(row));
  }
  fmt::print("{}\n", json.dump(2));
}

/// The largest costs, and the others as one.
std::string operations_text(const Result& result) {
  std::vector<Column> columns = {{"operation", Align::kLeft}, {"count"}, {"time"}, {"share"}};
  if (result.ceilings) columns.insert(columns.end(), {{"floor"}, {"of floor"}});
  Table table(columns);
  const auto add = [&](const OperationShare& operation) {
    std::vector<std::string> row = {operation.name, fmt::format("{}", operation.count),
                                    format_us(operation.total_us),
                                    fmt::format("{:.1f}%", 100 * share_of(operation, result.measured))};
    if (result.ceilings) {
      const double floor = floor_us(operation, *result.ceilings);
      row.push_back(format_us(floor));
      row.push_back(fmt::format("{:.2f}", operation.total_us / floor));
    }
    table.add(row);
  };
  OperationShare others;
  int num_others = 0;
  for (std::size_t i = 0; i < result.measured.operations.size(); ++i) {
    const OperationShare& operation = result.measured.operations[i];
    if (i < kShownOperations) {
      add(operation);
      continue;
    }
    ++num_others;
    others.count += operation.count;
    others.total_us += operation.total_us;
    others.work.insert(others.work.end(), operation.work.begin(), operation.work.end());
  }
  others.name = fmt::format("({} others)", num_others);
  if (num_others > 0) add(others);
  return table.text();
}

void print_table(const ModelFile& file, const ModelBenchOptions& options, const Result& result) {
  const ModelMeasurement& m = result.measured;
  fmt::print("{}, {}, batch {}, {}, {}, median of {}\n\n", file.model.name, name(file.training.dtype),
             file.training.batch_size, result.ranks_text, options.trains ? "training step" : "inference",
             m.step_us.size());
  fmt::print("{:.1f} images/s, {} a step\n", m.images_per_s, format_us(m.median_us));
  fmt::print("on this rank: parameters{} {}, optimizer {}, activations {}\n\n",
             options.trains ? " and gradients" : "", format_bytes(static_cast<double>(m.parameter_bytes)),
             format_bytes(static_cast<double>(m.optimizer_bytes)),
             format_bytes(static_cast<double>(m.activation_bytes)));
  if (result.device_memory_bytes)
    fmt::print("peak device memory of this program: {}\n\n",
               format_bytes(static_cast<double>(*result.device_memory_bytes)));
  if (result.ceilings) {
    fmt::print(
        "{:.1f}% of the matrix ceiling; measured here: product {:.0f} TFLOP/s (8192^3), copy {:.0f} GB/s\n\n",
        100 * result.matrix_share, result.ceilings->matrix_TFLOPs, result.ceilings->copy_GBps);
  }
  fmt::print("{}", operations_text(result));
}

}  // namespace

void run_model_bench(const ModelBenchOptions& options, const RankOptions& machine, bool json) {
  ModelFile file = read_model_file(options.config);
  if (options.batch > 0) file.training.batch_size = options.batch;
  if (options.dtype) file.training.dtype = *options.dtype;
  std::optional<DeviceMemoryPeak> memory;  // of what the ranks are about to take
  if (const Device device = parse_device(machine.device); device.is_cuda()) memory.emplace(device);
  machine.run("bench", [&](Communicator& world) {
    RankContext context(world, machine.usable_device(file.training.dtype), {.allow_tf32 = machine.tf32});
    ModelPlans plans(options.plans, file, options.trains, context);
    const ModelBenchmark benchmark{.model = file.model,
                                   .training = file.training,
                                   .trains = options.trains,
                                   .warmup = options.warmup,
                                   .repeats = options.repeats};
    Result result{.ranks_text = world.description()};
    {
      Progress progress("bench");
      result.measured = benchmark_model(benchmark, plans.source(), context, [&](int done, int total) {
        if (memory) memory->sample();
        progress.update(done, total);
      });
    }
    if (world.rank() != 0) return;
    if (memory) result.device_memory_bytes = memory->bytes();
    if (world.size() == 1 && context.device().is_cuda()) {
      Stream stream(context.device());
      result.ceilings = measure_ceilings(file.training.dtype, *context.gemm(), stream);
      result.matrix_share = matrix_share(benchmark, result.measured.images_per_s, *result.ceilings);
    }
    json ? print_json(file, options, result) : print_table(file, options, result);
  });
}

}  // namespace flex::cli
