#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/json.h"
#include "bench/program_main.h"
#include "bench/search_report.h"
#include "bench/search_settings.h"
#include "costmodel/parameter_scaling.h"
#include "tuner/landscape.h"
#include "tuner/simulated_evaluator.h"

/// How good the plans are that each search strategy finds, and what it spends. Machines are simulated: for
/// each setting the truth is its cluster's cost model, evaluations scatter around it, and the model that may
/// guide a search is a copy of the truth with every parameter off by a factor of its own. Regret is taken on
/// the truth without noise, against the best of all pairs of plans. An evaluation is one plan in one pass.
/// docs/tuning.md explains the columns. The default seeds are for reporting: work on strategies with others.
namespace flex::bench {
namespace {

struct Settings {
  int shapes_per_world = 12;
  int num_seeds = 30;
  std::uint64_t first_seed = 2206;
  double noise = 0.05;        ///< of evaluations
  double model_error = 0.15;  ///< of each parameter of the model
  int num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::string json_file;
};

/// What is compared: the strategies, and two choices that evaluate nothing.
struct Contestant {
  std::string name;
  std::optional<StrategyKind> strategy{};
};

std::vector<Contestant> contestants() {
  std::vector<Contestant> all = {{"default plan"}, {"model alone"}};
  for (const StrategyKind kind : kStrategyKinds) all.push_back({std::string(name(kind)), kind});
  return all;
}

std::vector<double> draw_factors(std::size_t count, double sigma, PhiloxStream& random) {
  std::vector<double> factors(count);
  for (double& factor : factors) factor = std::exp(sigma * random.normal());
  return factors;
}

/// All contestants on one setting with all seeds.
class SettingRun {
 public:
  SettingRun(const SearchSetting& setting, const Settings& settings)
      : setting_(setting),
        settings_(settings),
        truth_(setting.cluster, calibration_of(setting.cluster).parameters),
        problem_(search_problem(setting.workload, setting.cluster)),
        landscape_(landscape_of(truth_)) {}

  /// (contestants, seeds).
  [[nodiscard]] std::vector<std::vector<Outcome>> run() const {
    const std::vector<Contestant> all = contestants();
    std::vector<std::vector<Outcome>> outcomes(all.size());
    for (int i = 0; i < settings_.num_seeds; ++i) {
      const std::uint64_t seed = splitmix64(settings_.first_seed + static_cast<std::uint64_t>(i));
      PhiloxStream random(seed);
      const CostParameters& parameters = truth_.parameters();
      const CostModel model(
          setting_.cluster,
          scaled(parameters, draw_factors(num_scalable(parameters), settings_.model_error, random)));
      for (std::size_t c = 0; c < all.size(); ++c) outcomes[c].push_back(outcome(all[c], model, seed));
    }
    return outcomes;
  }

 private:
  [[nodiscard]] Landscape landscape_of(const CostModel& costs) const {
    SimulatedEvaluator evaluator(setting_.workload, setting_.cluster, costs);
    return {problem_, [&](const Plan& plan, Pass pass) { return evaluator.truth_us(plan, pass); }};
  }

  [[nodiscard]] Outcome outcome(const Contestant& contestant, const CostModel& model,
                                std::uint64_t seed) const {
    if (!contestant.strategy) {
      return judge(contestant.name == "default plan" ? TimedPlanPair{} : landscape_of(model).best(), 0);
    }
    const StrategyKind kind = *contestant.strategy;
    SimulatedEvaluator evaluator(setting_.workload, setting_.cluster, truth_,
                                 {.relative_spread = settings_.noise, .seed = splitmix64(seed)});
    const bool is_bounded = kind == StrategyKind::kRandom || kind == StrategyKind::kModel;
    const SearchBudget budget = is_bounded ? tenth_of(problem_) : SearchBudget{};
    const SearchResult result = make_strategy(kind, model)->search(problem_, evaluator, budget, seed);
    return judge(result.best, result.num_evaluations());
  }

  [[nodiscard]] Outcome judge(const TimedPlanPair& pair, std::int64_t evaluations) const {
    const double default_us = landscape_.total_us({kDefaultPlan, kDefaultPlan});
    return {
        .regret = landscape_.regret(pair),
        .over_default = landscape_.total_us(pair) / default_us - 1,
        .evaluations = evaluations,
        .num_candidates = problem_.num_candidates(),
        .paper_count = (std::log(static_cast<double>(setting_.workload.shards())) / std::log(1.5) + 2) * 8,
        // One pair is the default plan's.
        .random_regret = landscape_.random_regret(std::max<std::int64_t>(evaluations / 2 - 1, 0))};
  }

  const SearchSetting& setting_;
  const Settings& settings_;
  CostModel truth_;
  SearchProblem problem_;
  Landscape landscape_;
};

using Outcomes = std::vector<std::vector<Outcome>>;  // (contestants, seeds)

/// By setting.
std::vector<Outcomes> run_all(const std::vector<SearchSetting>& all, const Settings& settings) {
  std::vector<Outcomes> outcomes(all.size());
  std::atomic<std::size_t> next = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < settings.num_threads; ++i) {
    threads.emplace_back([&] {
      for (std::size_t at = next++; at < all.size(); at = next++) {
        outcomes[at] = SettingRun(all[at], settings).run();
      }
    });
  }
  threads.clear();  // joins
  return outcomes;
}

std::vector<Summary> summarize_all(const std::vector<Outcomes>& outcomes, double noise) {
  std::vector<Summary> summaries;
  const std::vector<Contestant> all = contestants();
  for (std::size_t c = 0; c < all.size(); ++c) {
    std::vector<Outcome> flat;
    for (const Outcomes& one : outcomes) flat.insert(flat.end(), one[c].begin(), one[c].end());
    summaries.push_back(summarize(all[c].name, flat, noise));
  }
  return summaries;
}

/// Mean regret of each contestant on each setting.
nlohmann::ordered_json settings_to_json(const std::vector<SearchSetting>& all,
                                        const std::vector<Outcomes>& outcomes) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < all.size(); ++i) {
    nlohmann::ordered_json row{{"setting", all[i].text()},
                               {"candidates", outcomes[i].front().front().num_candidates}};
    for (std::size_t c = 0; c < contestants().size(); ++c) {
      double sum = 0;
      for (const Outcome& one : outcomes[i][c]) sum += one.regret;
      row[contestants()[c].name] = sum / static_cast<double>(outcomes[i][c].size());
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

int run_program(int argc, char** argv) {
  Settings settings;
  std::uint64_t settings_seed = 3382;
  CLI::App app("Quality of search strategies on simulated clusters");
  app.add_option("--shapes", settings.shapes_per_world, "layers on each of 18 clusters")
      ->check(CLI::PositiveNumber);
  app.add_option("--seeds", settings.num_seeds, "searches of each setting")->check(CLI::PositiveNumber);
  app.add_option("--seed", settings.first_seed, "the first of them");
  app.add_option("--settings-seed", settings_seed, "draws the layers");
  app.add_option("--noise", settings.noise, "relative spread of evaluations")->check(CLI::NonNegativeNumber);
  app.add_option("--model-error", settings.model_error, "sigma of each parameter's logarithm")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--threads", settings.num_threads, "over settings")->check(CLI::PositiveNumber);
  app.add_option("--json", settings.json_file, "also write results there");
  CLI11_PARSE(app, argc, argv);

  const std::vector<SearchSetting> all = draw_search_settings(settings.shapes_per_world, settings_seed);
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<Outcomes> outcomes = run_all(all, settings);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const std::vector<Summary> summaries = summarize_all(outcomes, settings.noise);
  fmt::print("{} settings, {} searches of each; noise {}, model off by {}; {:.0f} s\n\n", all.size(),
             settings.num_seeds, percent(settings.noise), percent(settings.model_error), seconds.count());
  fmt::print("{}", table_of(summaries));
  if (!settings.json_file.empty()) {
    nlohmann::ordered_json json{{"settings", all.size()},
                                {"seeds", settings.num_seeds},
                                {"first_seed", settings.first_seed},
                                {"settings_seed", settings_seed},
                                {"noise", settings.noise},
                                {"model_error", settings.model_error}};
    for (const Summary& one : summaries) json["strategies"].push_back(to_json(one));
    json["mean_regret_by_setting"] = settings_to_json(all, outcomes);
    write_json_file(settings.json_file, json);
  }
  return 0;
}

}  // namespace
}  // namespace flex::bench

int main(int argc, char** argv) {
  return flex::bench::program_main("flex_search_quality", argc, argv, flex::bench::run_program);
}
