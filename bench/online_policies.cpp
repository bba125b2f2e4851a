#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/json.h"
#include "base/philox.h"
#include "bench/online_report.h"
#include "bench/program_main.h"

/// How plan policies do in long runs on simulated machines: the needed capacity moves by up to 4.4 times, a
/// link changes its speed in the middle, measurements scatter, and the model that the policies are given has
/// every parameter off by a factor of its own. Times are the truth's without noise, over those of an oracle
/// that knows every iteration. docs/tuning.md explains the columns. Exits with 1 if the online policy does
/// not meet a line at the end. The default seeds are for reporting: work on policies with others.
namespace flex::bench {
namespace {

struct Options {
  OnlineRunSettings run;
  int shapes_per_world = 8;
  int num_seeds = 3;
  std::uint64_t first_seed = 2206;
  std::uint64_t settings_seed = 3382;
  int num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::string json_file;
};

std::vector<SettingRuns> run_all(const Options& options) {
  std::vector<SettingRuns> all;
  for (OnlineSetting& setting : draw_online_settings(options.shapes_per_world, options.settings_seed)) {
    all.push_back({.setting = std::move(setting)});
  }
  std::atomic<std::size_t> next = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < options.num_threads; ++i) {
    threads.emplace_back([&] {
      for (std::size_t at = next++; at < all.size(); at = next++) {
        OnlineMachine machine(all[at].setting);
        for (int run = 0; run < options.num_seeds; ++run) {
          const std::uint64_t seed = splitmix64(options.first_seed + static_cast<std::uint64_t>(run));
          all[at].runs.push_back(run_policies(all[at].setting, machine, options.run, seed));
        }
      }
    });
  }
  threads.clear();  // joins
  return all;
}

int run_program(int argc, char** argv) {
  Options options;
  CLI::App app("Plan policies on simulated machines");
  app.add_option("--shapes", options.shapes_per_world, "layers on each of 12 clusters")
      ->check(CLI::PositiveNumber);
  app.add_option("--seeds", options.num_seeds, "runs of each setting")->check(CLI::PositiveNumber);
  app.add_option("--seed", options.first_seed, "the first of them");
  app.add_option("--settings-seed", options.settings_seed, "draws the layers");
  app.add_option("--iterations", options.run.num_iterations, "of a run")->check(CLI::Range(2, 1'000'000));
  app.add_option("--noise", options.run.noise, "relative spread of measurements")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--model-error", options.run.model_error, "sigma of each parameter's logarithm")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--explore", options.run.online.exploration_share, "share of the time, 0 to below 1");
  app.add_option("--threads", options.num_threads, "over settings")->check(CLI::PositiveNumber);
  app.add_option("--json", options.json_file, "also write results there");
  CLI11_PARSE(app, argc, argv);

  const auto begin = std::chrono::steady_clock::now();
  const std::vector<SettingRuns> all = run_all(options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  fmt::print("{} settings, {} runs of each, {} iterations; noise {}%, model off by {}%; {:.0f} s\n\n",
             all.size(), options.num_seeds, options.run.num_iterations, 100 * options.run.noise,
             100 * options.run.model_error, seconds.count());
  fmt::print("{}\n{}\n", table_of_settings(all), table_of_policies(all));
  bool all_hold = true;
  nlohmann::ordered_json lines = nlohmann::ordered_json::array();
  for (const AcceptanceLine& line : judge(all, options.run.online.exploration_share)) {
    fmt::print("{:4}  {}\n", line.holds ? "ok" : "FAIL", line.text);
    lines.push_back({{"line", line.text}, {"holds", line.holds}});
    all_hold = all_hold && line.holds;
  }
  if (!options.json_file.empty()) {
    write_json_file(options.json_file, {{"seeds", options.num_seeds},
                                        {"first_seed", options.first_seed},
                                        {"settings_seed", options.settings_seed},
                                        {"iterations", options.run.num_iterations},
                                        {"noise", options.run.noise},
                                        {"model_error", options.run.model_error},
                                        {"exploration_share", options.run.online.exploration_share},
                                        {"acceptance", std::move(lines)},
                                        {"runs", to_json(all)}});
  }
  return all_hold ? 0 : 1;
}

}  // namespace
}  // namespace flex::bench

int main(int argc, char** argv) {
  return flex::bench::program_main("flex_online_policies", argc, argv, flex::bench::run_program);
}
