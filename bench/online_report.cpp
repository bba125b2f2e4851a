#include "bench/online_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace flex::bench {
namespace {

std::string percent(double fraction) { return fmt::format("{:.2f}%", 100 * fraction); }

/// A policy by the name of its column, and what it took in a run.
struct Contestant {
  const char* name;
  std::function<double(const OnlineRun&)> total_us;
};

const std::vector<Contestant>& contestants() {
  static const std::vector<Contestant> kAll = {
      {"static default", [](const OnlineRun& run) { return run.default_us; }},
      {"best static", [](const OnlineRun& run) { return run.best_static_us; }},
      {"dictionary", [](const OnlineRun& run) { return run.dictionary.total_us; }},
      {"model", [](const OnlineRun& run) { return run.model.total_us; }},
      {"online", [](const OnlineRun& run) { return run.online.total_us; }},
  };
  return kAll;
}

double over_oracle(const OnlineRun& run, double total_us) { return total_us / run.oracle_us - 1; }

double mean_over(const SettingRuns& setting, const std::function<double(const OnlineRun&)>& value) {
  double sum = 0;
  for (const OnlineRun& run : setting.runs) sum += value(run);
  return sum / static_cast<double>(setting.runs.size());
}

double explored_share(const OnlineRun& run) {
  const OnlineStatistics& s = run.online.statistics;
  return static_cast<double>(s.explored_ns) / static_cast<double>(s.total_ns);
}

std::vector<OnlineRun> all_runs(std::span<const SettingRuns> all) {
  std::vector<OnlineRun> runs;
  for (const SettingRuns& one : all) runs.insert(runs.end(), one.runs.begin(), one.runs.end());
  return runs;
}

}  // namespace

std::string table_of_settings(std::span<const SettingRuns> all) {
  std::vector<cli::Column> columns = {{"setting", cli::Align::kLeft}};
  for (const Contestant& one : contestants()) columns.push_back({one.name});
  for (const char* title : {"explored", "switches", "bucket changes", "flaps", "re-openings"}) {
    columns.push_back({title});
  }
  cli::Table table(std::move(columns));
  for (const SettingRuns& setting : all) {
    std::vector<std::string> row = {setting.setting.text()};
    for (const Contestant& one : contestants()) {
      row.push_back(percent(
          mean_over(setting, [&](const OnlineRun& run) { return over_oracle(run, one.total_us(run)); })));
    }
    row.push_back(percent(mean_over(setting, explored_share)));
    for (const auto member : {&OnlineStatistics::switches, &OnlineStatistics::bucket_changes,
                              &OnlineStatistics::flaps, &OnlineStatistics::reopenings}) {
      row.push_back(fmt::format("{:.1f}", mean_over(setting, [&](const OnlineRun& run) {
                                  return static_cast<double>(run.online.statistics.*member);
                                })));
    }
    table.add(std::move(row));
  }
  return table.text();
}

std::string table_of_policies(std::span<const SettingRuns> all) {
  cli::Table table({{"policy", cli::Align::kLeft},
                    {"over oracle, mean"},
                    {"median"},
                    {"95th pct"},
                    {"largest"},
                    {"over best static, mean"},
                    {"largest"}});
  const std::vector<OnlineRun> runs = all_runs(all);
  for (const Contestant& one : contestants()) {
    std::vector<double> over;
    double mean = 0;
    double mean_static = 0;
    double largest_static = -1;
    for (const OnlineRun& run : runs) {
      over.push_back(over_oracle(run, one.total_us(run)));
      mean += over.back() / static_cast<double>(runs.size());
      const double over_static = one.total_us(run) / run.best_static_us - 1;
      mean_static += over_static / static_cast<double>(runs.size());
      largest_static = std::max(largest_static, over_static);
    }
    std::ranges::sort(over);
    const auto at = [&](double part) {
      return over[static_cast<std::size_t>(std::ceil(part * static_cast<double>(over.size()))) - 1];
    };
    table.add({one.name, percent(mean), percent(at(0.5)), percent(at(0.95)), percent(over.back()),
               percent(mean_static), percent(largest_static)});
  }
  return table.text();
}

std::vector<AcceptanceLine> judge(std::span<const SettingRuns> all, double share) {
  constexpr double kMostOverOracle = 0.03;
  constexpr double kClearGain = 0.05;
  // Of a run of thousands of iterations nothing is left of the noise but the share that is explored.
  const double most_over_default = share;
  double sum_us = 0;
  double oracle_us = 0;
  double worst_setting = 0;
  double most_explored = 0;
  double worst_over_default = -1;
  std::int64_t num_clear = 0;
  std::int64_t num_lost = 0;
  std::int64_t num_flapping = 0;
  for (const SettingRuns& setting : all) {
    const double over =
        mean_over(setting, [](const OnlineRun& run) { return over_oracle(run, run.online.total_us); });
    worst_setting = std::max(worst_setting, over);
    for (const OnlineRun& run : setting.runs) {
      // In units of the oracle's time, so that long iterations do not outweigh short ones.
      sum_us += run.online.total_us / run.oracle_us;
      oracle_us += 1;
      most_explored = std::max(most_explored, explored_share(run));
      worst_over_default = std::max(worst_over_default, run.online.total_us / run.default_us - 1);
      const bool is_clear = run.best_static_us >= (1 + kClearGain) * run.oracle_us;
      num_clear += is_clear ? 1 : 0;
      num_lost += is_clear && run.online.total_us >= run.best_static_us ? 1 : 0;
      num_flapping += run.online.statistics.flaps > run.online.statistics.bucket_changes ? 1 : 0;
    }
  }
  const double over = sum_us / oracle_us - 1;
  return {
      {fmt::format("within 3% of the oracle: {} over all runs", percent(over)), over <= kMostOverOracle},
      {fmt::format("within 3% of the oracle on each setting: at most {}", percent(worst_setting)),
       worst_setting <= kMostOverOracle},
      {fmt::format("exploration within {}: at most {} in a run", percent(share), percent(most_explored)),
       most_explored <= share},
      {fmt::format("better than the best static plan where the oracle is 5% better: not in {} of {} run(s)",
                   num_lost, num_clear),
       num_lost == 0},
      {fmt::format("plans flap no more often than the bucket changes: not in {} run(s)", num_flapping),
       num_flapping == 0},
      {fmt::format("not slower than the default plan beyond {}: at most {}", percent(most_over_default),
                   percent(worst_over_default)),
       worst_over_default <= most_over_default}};
}

nlohmann::ordered_json to_json(std::span<const SettingRuns> all) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const SettingRuns& setting : all) {
    for (const OnlineRun& run : setting.runs) {
      nlohmann::ordered_json row{{"setting", setting.setting.text()}, {"oracle_us", run.oracle_us}};
      for (const Contestant& one : contestants())
        row["over_oracle"][one.name] = over_oracle(run, one.total_us(run));
      const OnlineStatistics& s = run.online.statistics;
      row["best_static"] = {to_string(run.best_static.forward), to_string(run.best_static.backward)};
      row["explored_share"] = explored_share(run);
      row["explored_iterations"] = s.explored_iterations;
      row["switches"] = s.switches;
      row["bucket_changes"] = s.bucket_changes;
      row["flaps"] = s.flaps;
      row["reopenings"] = s.reopenings;
      row["models"] = s.models;
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace flex::bench
