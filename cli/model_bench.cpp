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
};

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
  for (const OperationShare& operation : m.operations) {
    json["operations"].push_back({{"name", operation.name},
                                  {"count", operation.count},
                                  {"total_us", operation.total_us},
                                  {"share", share_of(operation, m)}});
  }
  fmt::print("{}\n", json.dump(2));
}

void print_table(const ModelFile& file, const ModelBenchOptions& options, const Result& result) {
  const ModelMeasurement& m = result.measured;
  fmt::print("{}, {}, batch {}, {}, {}, median of {}\n\n", file.model.name, name(file.training.dtype),
             file.training.batch_size, result.ranks_text, options.trains ? "training step" : "inference",
             m.step_us.size());
  fmt::print("{:.1f} images/s, {} a step\n", m.images_per_s, format_us(m.median_us));
  fmt::print("on this rank: parameters and gradients {}, optimizer {}, activations {}\n\n",
             format_bytes(static_cast<double>(m.parameter_bytes)),
             format_bytes(static_cast<double>(m.optimizer_bytes)),
             format_bytes(static_cast<double>(m.activation_bytes)));
  if (result.device_memory_bytes)
    fmt::print("peak device memory of this program: {}\n\n",
               format_bytes(static_cast<double>(*result.device_memory_bytes)));
  Table table({{"operation", Align::kLeft}, {"count"}, {"time"}, {"share"}});
  for (const OperationShare& operation : m.operations) {
    table.add({operation.name, fmt::format("{}", operation.count), format_us(operation.total_us),
               fmt::format("{:.1f}%", 100 * share_of(operation, m))});
  }
  fmt::print("{}", table.text());
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
    json ? print_json(file, options, result) : print_table(file, options, result);
  });
}

}  // namespace flex::cli
