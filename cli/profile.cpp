#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/require.h"
#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/rank_options.h"
#include "cli/table.h"
#include "runtime/bind_thread.h"
#include "runtime/environment.h"
#include "runtime/gather_texts.h"
#include "runtime/local_cluster.h"
#include "runtime/profile_parts.h"
#include "tuner/stored_calibration.h"

// flexmoe profile [--device cuda:0] [--ranks 4] [--resume]
// Measures what operations take on the ranks of this host or job, keeps the samples in the tuning cache, and
// fits the cost model to all that it has of this environment.
namespace flex::cli {
namespace {

struct Options {
  RankOptions machine;
  std::string dtype;
  int shapes = 12;
  int plans = 5;
  double budget_s = 90;
  std::uint64_t seed = 1;
  std::string clock = "cupti";
  bool resume = false;
  std::string cache = default_cache_path().string();
  std::string output;
  bool json = false;
};

/// What a run leaves behind for the report.
struct Profiled {
  std::string where;  ///< what it ran on, in one line
  std::string device;
  ProfileParts parts;
  std::vector<CostSample> samples;  ///< all of the environment, of earlier runs too
  std::optional<CalibrationResult> fit;
  Cluster cluster;
};

DType dtype_of(const Options& options, bool is_gpu) {
  const std::string usual = is_gpu ? "bf16" : "fp32";
  return parse_dtype(options.dtype.empty() ? usual : options.dtype).value();
}

ProfileSettings settings_of(const Options& options, Device device, RankContext& context) {
  const int world = context.size();
  const bool is_gpu = device.is_cuda();
  ProfileSettings settings{
      .shapes =
          draw_shapes(options.shapes, world, is_gpu ? gpu_work_range(world) : WorkRange(), options.seed),
      .dtype = dtype_of(options, is_gpu),
      .plans_per_shape = options.plans,
      .seed = options.seed,
      .budget_s = options.budget_s,
      .operations = {.device = device_name(device),
                     .source = "flexmoe profile",
                     .clock = is_gpu && options.clock == "cupti" ? RangeClock::kCupti : RangeClock::kMarks}};
  // In-process ranks share the GPU; ranks of a job on several have one each.
  if (is_gpu && options.machine.launcher == "threads") settings.operations.ranks_per_device = world;
  return settings;
}

/// What rank 0's cache has of this environment, on every rank.
std::vector<std::string> share_known(const std::vector<SamplePart>& mine, RankContext& context) {
  std::string lines;
  for (const SamplePart& part : mine) lines += part.name + "\n";
  const std::string shared = gather_texts_blocking(lines, context.control()).front();
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin < shared.size();) {
    const std::size_t end = shared.find('\n', begin);
    names.push_back(shared.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

/// One rank's part; rank 0 fills `profiled`.
void profile_rank(const Options& options, Device device, Communicator& world, Profiled& profiled) {
  if (device.is_cpu() && options.machine.launcher == "threads") bind_this_thread(world.rank());
  RankContext context(world, device, {.allow_tf32 = options.machine.tf32});
  const bool is_first = world.rank() == 0;
  const Cluster cluster = local_cluster(world.counters().topology(), device);
  const Environment environment = environment_of(context, cluster);
  std::optional<TuningCache> cache;
  std::optional<Progress> progress;
  if (is_first) {
    cache = TuningCache::open(options.cache);
    progress.emplace("profile", WhenInterrupted::kGoOn);
  }
  ProfilePartsSettings settings{.sweep = settings_of(options, device, context),
                                .should_stop = [] { return Interrupt::requested(); }};
  if (options.resume) {
    settings.known = share_known(is_first ? cache->samples(environment) : std::vector<SamplePart>(), context);
  }
  const ProfileParts parts = profile_in_parts(
      settings, context,
      [&](const std::string& part, std::span<const CostSample> samples) {
        if (cache) cache->record_samples(environment, part, samples);
      },
      [&](int done, int total) { progress->update(done, total); });
  if (!is_first) return;
  progress.reset();
  profiled = {.where = world.description(),
              .device = environment.device,
              .parts = parts,
              .samples = stored_samples(*cache, environment),
              .fit = fit_stored_samples(*cache, environment, cluster),
              .cluster = cluster};
}

/// Of all samples of operations alone.
struct KindShare {
  OperationKind kind = OperationKind::kGate;
  double share = 0;
};

std::vector<KindShare> shares_of(const std::vector<CostSample>& samples) {
  std::vector<KindShare> shares;
  double total_ns = 0;
  for (const CostSample& sample : samples) {
    if (sample.beside != Beside::kNothing) continue;
    auto found = std::ranges::find(shares, sample.kind, &KindShare::kind);
    if (found == shares.end()) found = shares.insert(shares.end(), {.kind = sample.kind});
    found->share += static_cast<double>(sample.duration_ns);
    total_ns += static_cast<double>(sample.duration_ns);
  }
  for (KindShare& share : shares) share.share /= std::max(total_ns, 1.0);
  std::ranges::sort(shares, [](const KindShare& a, const KindShare& b) {
    return a.share != b.share ? a.share > b.share : a.kind < b.kind;
  });
  return shares;
}

std::string percent(double fraction) { return fmt::format("{:.1f}%", 100 * fraction); }

std::string residual_table(const Profiled& profiled) {
  Table table({{"operation", Align::kLeft},
               {"samples"},
               {"share"},
               {"median error"},
               {"95th pct"},
               {"host us"},
               {"fit", Align::kLeft}});
  for (const auto& [kind, share] : shares_of(profiled.samples)) {
    const KindFit& fit = profiled.fit->of(kind);
    const double issue_us = profiled.fit->parameters.issue_us[static_cast<std::size_t>(kind)];
    table.add({std::string(name(kind)), fmt::format("{}", fit.num_samples), percent(share),
               percent(fit.median_error), percent(fit.p95_error),
               issue_us > 0 ? fmt::format("{:.1f}", issue_us) : "",
               fit.own_parameters ? "its own" : "shared"});
  }
  return table.text();
}

nlohmann::ordered_json to_json(const Options& options, const Profiled& profiled) {
  nlohmann::ordered_json json = {{"on", profiled.where},
                                 {"device", profiled.device},
                                 {"measured", profiled.parts.num_measured},
                                 {"skipped", profiled.parts.num_known},
                                 {"interrupted", profiled.parts.stopped},
                                 {"samples", profiled.samples.size()},
                                 {"cache", options.cache}};
  json["operations"] = nlohmann::ordered_json::array();
  if (!profiled.fit) return json;
  for (const auto& [kind, share] : shares_of(profiled.samples)) {
    const KindFit& fit = profiled.fit->of(kind);
    json["operations"].push_back(
        {{"operation", name(kind)},
         {"samples", fit.num_samples},
         {"share", share},
         {"median_error", fit.median_error},
         {"p95_error", fit.p95_error},
         {"own_parameters", fit.own_parameters},
         {"issue_us", profiled.fit->parameters.issue_us[static_cast<std::size_t>(kind)]}});
  }
  return json;
}

void print(const Options& options, const Profiled& profiled) {
  if (options.json) {
    fmt::print("{}\n", to_json(options, profiled).dump(2));
    return;
  }
  const ProfileParts& parts = profiled.parts;
  fmt::print("{} on {}\n{} layer(s) measured, {} skipped, {} samples of this environment in {}\n",
             profiled.where, profiled.device, parts.num_measured, parts.num_known, profiled.samples.size(),
             options.cache);
  if (profiled.fit) fmt::print("\nErrors of samples that were held out:\n{}", residual_table(profiled));
  if (!options.output.empty() && profiled.fit) fmt::print("parameters written to {}\n", options.output);
  if (parts.stopped) {
    fmt::print("stopped; the same command with --resume goes on after the {} layer(s) that are kept\n",
               parts.num_measured + parts.num_known);
  }
}

void run(const Options& options, Outcome& outcome) {
  const Device device = parse_device(options.machine.device);
  static_cast<void>(options.machine.usable_device(dtype_of(options, device.is_cuda())));
  require_writable(options.output);
  Profiled profiled;
  {
    const Interrupt interrupt;
    // Makes a GPU's context before any deadline begins, and ends CUPTI when no rank calls CUDA any more.
    const auto keeper = make_range_source(
        device, device.is_cuda() && options.clock == "cupti" ? RangeClock::kCupti : RangeClock::kMarks, 0, 0);
    options.machine.run("profile",
                        [&](Communicator& world) { profile_rank(options, device, world, profiled); });
  }
  if (profiled.where.empty()) return;  // another rank of the job prints
  if (!options.output.empty() && profiled.fit) {
    write_calibration_file(options.output,
                           to_calibration(*profiled.fit, profiled.cluster, "flexmoe profile"));
  }
  print(options, profiled);
  if (profiled.parts.stopped) outcome.exit_code = kInterrupted;
}

}  // namespace

void add_profile(CLI::App& app, Outcome& outcome) {
  CLI::App* command = app.add_subcommand(
      "profile", "Measure what operations take here, and fit the cost model that tune and explain use");
  command->footer(
      "Examples:\n"
      "  flexmoe profile --ranks 4\n"
      "  flexmoe profile --device cuda:0 --ranks 1 --output h200.json\n"
      "Ctrl-C keeps the layers that are done; --resume goes on.");
  auto options = std::make_shared<Options>();
  add_rank_options(*command, options->machine);
  command->add_option("--dtype", options->dtype, "fp32, fp64, fp16 or bf16 (fp32, on a GPU bf16)")
      ->check(CLI::IsMember({"fp32", "fp64", "fp16", "bf16"}));
  command->add_option("--shapes", options->shapes, "Layers that are measured")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--plans", options->plans, "Plans of each, drawn by the seed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--budget", options->budget_s, "Seconds for all layers together")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Of layers, plans and tokens")->capture_default_str();
  command->add_option("--clock", options->clock, "On a GPU: operations by cupti or events")
      ->check(CLI::IsMember({"cupti", "events"}))
      ->capture_default_str();
  command->add_flag("--resume", options->resume, "Layers that the cache has are not measured again");
  command
      ->add_option("--cache", options->cache,
                   "Where samples are kept; otherwise FLEX_CACHE, or tuning.db in flexmoe's folder of the "
                   "user's caches")
      ->type_name("FILE");
  command
      ->add_option("-o,--output", options->output,
                   "Write the fitted parameters to this file, for --calibration")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &outcome] { run(*options, outcome); });
}

}  // namespace flex::cli
