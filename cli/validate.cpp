#include "cli/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/require.h"
#include "cli/progress.h"
#include "cli/rank_options.h"
#include "cli/validation_table.h"
#include "profiler/chrome_trace.h"
#include "runtime/pass_trace.h"
#include "runtime/validation.h"

namespace flex::cli {
namespace {

constexpr double kHostBudgetSeconds = 90;
constexpr double kGpuBudgetSeconds = 45;  // passes of a millisecond need fewer seconds

DType dtype_of(const ValidateOptions& options) { return parse_dtype(options.dtype).value(); }

Device device_of(const ValidateOptions& options) {
  RankOptions ranks;
  ranks.device = options.device;
  return ranks.usable_device(dtype_of(options));
}

RangeClock clock_of(const ValidateOptions& options, Device device) {
  return device.is_cuda() && options.clock == "cupti" ? RangeClock::kCupti : RangeClock::kMarks;
}

ValidationSettings settings_of(const ValidateOptions& options, int world) {
  const Device device = device_of(options);
  ValidationSettings settings{
      .device = device,
      .world = world,
      .num_pairs = options.pairs,
      .dtype = dtype_of(options),
      .clock = clock_of(options, device),
      .seed = options.seed,
      .budget_s = options.budget_s.value_or(device.is_cuda() ? kGpuBudgetSeconds : kHostBudgetSeconds)};
  if (device.is_cuda()) {
    settings.range = gpu_work_range(world);
    settings.plans_per_shape = 12;  // of many with several ranks: more layers say more
    settings.min_rounds = 2;
  }
  return settings;
}

ValidationRun measure(const ValidateOptions& options, int world) {
  const ValidationSettings settings = settings_of(options, world);
  ValidationRecording recording;
  {
    Progress progress(fmt::format("validate, {} rank(s)", world));
    recording = record_validation(settings, [&](int done, int total) { progress.update(done, total); });
  }
  if (!options.record.empty()) {  // before anything else: a calibration can be made again, a measurement not
    std::filesystem::create_directories(options.record);
    write_validation_recording(
        std::filesystem::path(options.record) /
            fmt::format("validation_{}_w{}.json", settings.device.is_cuda() ? "gpu" : "cpu", world),
        recording);
  }
  return evaluate_validation(std::move(recording), options.table);
}

std::vector<ValidationRun> all_runs(const ValidateOptions& options) {
  std::vector<ValidationRun> runs;
  for (const std::string& file : options.recordings) {
    runs.push_back(evaluate_validation(read_validation_recording(file), options.table));
  }
  if (options.recordings.empty()) {
    for (const int world : options.ranks) runs.push_back(measure(options, world));
  }
  return runs;
}

void write_trace(const ValidateOptions& options, const ValidationRun& run) {
  const Device device = device_of(options);
  // The plan with the most operations of the last layer: the one that has most to show.
  const auto last = std::ranges::max_element(
      run.recording.passes, {}, [](const MeasuredPass& pass) { return pass.pair.plan.pipeline_degree; });
  const TraceSettings settings{
      .device = device, .dtype = run.recording.dtype, .clock = clock_of(options, device)};
  write_chrome_trace(options.trace, trace_on_this_host(last->pair, settings, run.cluster, run.costs));
}

void write_samples(const ValidateOptions& options, const std::vector<ValidationRun>& runs) {
  std::vector<CostSample> samples;
  for (const ValidationRun& run : runs) {
    samples.insert(samples.end(), run.recording.samples.begin(), run.recording.samples.end());
  }
  write_cost_samples(options.write_samples, samples);
}

void print(const ValidateOptions& options, const std::vector<ValidationRun>& runs) {
  if (options.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const ValidationRun& run : runs) list.push_back(validation_json(run));
    fmt::print("{}\n", (list.size() == 1 ? list.front() : list).dump(2));
    return;
  }
  for (const ValidationRun& run : runs) {
    const ValidationRecording& recording = run.recording;
    fmt::print("{} ranks on {} of {}, {}, seed {}, {} rounds\n\n{}", recording.world,
               recording.is_gpu ? "one" : fmt::format("{} core(s)", recording.host_cores), recording.device,
               name(recording.dtype), recording.seed, recording.rounds, validation_table(run));
    if (!recording.is_gpu && recording.world > recording.host_cores) {
      fmt::print("more ranks than cores: they wait for each other's turn, which the model does not know\n");
    }
  }
  if (runs.size() > 1) fmt::print("\n{}", validation_summary(runs));
}

}  // namespace

void run_validation(const ValidateOptions& options) {
  require(options.recordings.empty() || (options.trace.empty() && options.record.empty()),
          "--recording reads what was measured before; --trace and --record need a measurement");
  const std::vector<ValidationRun> runs = all_runs(options);
  if (!options.write_samples.empty()) write_samples(options, runs);
  print(options, runs);
  if (options.trace.empty()) return;
  write_trace(options, runs.back());
  if (!options.json) fmt::print("timeline written to {}; open it at ui.perfetto.dev\n", options.trace);
}

void add_validate_options(CLI::App& command, CLI::Option& validate, ValidateOptions& options) {
  command.add_option("--device", options.device, "With --validate: cpu or cuda:N, which the ranks share")
      ->type_name("DEVICE")
      ->needs(&validate)
      ->capture_default_str();
  command
      .add_option("--ranks", options.ranks,
                  "With --validate: in-process ranks; several numbers, with commas: one after the other")
      ->delimiter(',')
      ->check(CLI::Range(1, 16))
      ->needs(&validate)
      ->capture_default_str();
  command
      .add_option("--budget", options.budget_s,
                  "With --validate: seconds to measure each number of ranks (90, on a GPU 45)")
      ->check(CLI::Range(1.0, 86400.0))
      ->needs(&validate);
  command.add_option("--pairs", options.pairs, "With --validate: pairs of a layer and a plan to predict")
      ->check(CLI::Range(1, 10000))
      ->needs(&validate)
      ->capture_default_str();
  command.add_option("--clock", options.clock, "With --validate on a GPU: operations by cupti or events")
      ->check(CLI::IsMember({"cupti", "events"}))
      ->needs(&validate)
      ->capture_default_str();
  command.add_flag("--table", options.table, "With --validate: predict from a table of the samples as well")
      ->needs(&validate);
  command.add_option("--seed", options.seed, "With --validate: of shapes, plans and tokens")
      ->needs(&validate)
      ->capture_default_str();
  command
      .add_option("--write-samples", options.write_samples,
                  "With --validate: write the measured operations to this file")
      ->type_name("FILE")
      ->needs(&validate);
  CLI::Option* record =
      command
          .add_option(
              "--write-recordings,--record", options.record,
              "With --validate: write all that was measured to this folder, a file for each number of ranks")
          ->type_name("DIR")
          ->needs(&validate);
  command
      .add_option("--recording", options.recordings,
                  "With --validate: measure nothing, predict what these files recorded")
      ->check(CLI::ExistingFile)
      ->needs(&validate)
      ->excludes(record);
}

}  // namespace flex::cli
