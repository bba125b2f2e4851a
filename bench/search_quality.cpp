#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/json.h"
#include "bench/search_settings.h"
#include "cli/table.h"
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

/// One search, judged by the truth.
struct Outcome {
  double regret = 0;
  double over_default = 0;  ///< time beyond the default plan's, as a fraction of that
  std::int64_t evaluations = 0;
  std::int64_t num_candidates = 0;
  double paper_count = 0;    ///< of one pass: (log_1.5(s) + 2) * 8
  double random_regret = 0;  ///< expected of as many evaluations spent on pairs by chance
};

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
      return judge(contestant.name == "default plan" ? PlanPair{} : landscape_of(model).best(), 0);
    }
    const StrategyKind kind = *contestant.strategy;
    SimulatedEvaluator evaluator(setting_.workload, setting_.cluster, truth_,
                                 {.relative_spread = settings_.noise, .seed = splitmix64(seed)});
    const bool is_bounded = kind == StrategyKind::kRandom || kind == StrategyKind::kModel;
    const SearchBudget budget = is_bounded ? tenth_of(problem_) : SearchBudget{};
    const SearchResult result = make_strategy(kind, model)->search(problem_, evaluator, budget, seed);
    return judge(result.best, result.num_evaluations());
  }

  [[nodiscard]] Outcome judge(const PlanPair& pair, std::int64_t evaluations) const {
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

/// What the table and the JSON say of one contestant.
struct Summary {
  std::string name;
  double mean_regret = 0, p95_regret = 0, max_regret = 0;
  double mean_evaluations = 0;
  std::int64_t max_evaluations = 0;
  double mean_share = 0;
  double max_over_budget = 0;  ///< evaluations over max(6, a tenth of the candidates)
  double max_over_paper = 0;   ///< evaluations of a pass over the count of the paper's search
  double max_over_default = 0, slower_than_default = 0;
  double random_regret = 0;
};

Summary summarize(const std::string& name, std::span<const Outcome> outcomes, double noise) {
  Summary summary{.name = name};
  const double comparison_spread = std::sqrt(2.0) * noise;  // of two evaluations
  const auto count = static_cast<double>(outcomes.size());
  std::vector<double> regrets;
  for (const Outcome& one : outcomes) {
    regrets.push_back(one.regret);
    summary.mean_regret += one.regret / count;
    summary.mean_evaluations += static_cast<double>(one.evaluations) / count;
    summary.max_evaluations = std::max(summary.max_evaluations, one.evaluations);
    summary.mean_share +=
        static_cast<double>(one.evaluations) / static_cast<double>(one.num_candidates) / count;
    summary.max_over_budget =
        std::max(summary.max_over_budget, static_cast<double>(one.evaluations) /
                                              std::max(6.0, 0.1 * static_cast<double>(one.num_candidates)));
    summary.max_over_paper =
        std::max(summary.max_over_paper, static_cast<double>(one.evaluations) / 2 / one.paper_count);
    summary.max_over_default = std::max(summary.max_over_default, one.over_default);
    summary.slower_than_default += one.over_default > comparison_spread ? 1 / count : 0;
    summary.random_regret += one.random_regret / count;
  }
  std::ranges::sort(regrets);
  summary.p95_regret = regrets[static_cast<std::size_t>(std::ceil(0.95 * count)) - 1];
  summary.max_regret = regrets.back();
  return summary;
}

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

std::string percent(double fraction) { return fmt::format("{:.2f}%", 100 * fraction); }

void print(const std::vector<Summary>& summaries) {
  cli::Table table({{"strategy", cli::Align::kLeft},
                    {"mean regret"},
                    {"95th pct"},
                    {"largest"},
                    {"random baseline"},
                    {"evaluations"},
                    {"most"},
                    {"share of space"},
                    {"of 6 or 10%"},
                    {"of paper's count"},
                    {"over default"},
                    {"beyond noise"}});
  for (const Summary& s : summaries) {
    table.add({s.name, percent(s.mean_regret), percent(s.p95_regret), percent(s.max_regret),
               percent(s.random_regret), fmt::format("{:.1f}", s.mean_evaluations),
               std::to_string(s.max_evaluations), percent(s.mean_share),
               fmt::format("{:.2f}", s.max_over_budget), fmt::format("{:.2f}", s.max_over_paper),
               percent(s.max_over_default), percent(s.slower_than_default)});
  }
  fmt::print("{}", table.text());
}

nlohmann::ordered_json to_json(const Summary& s) {
  return {{"strategy", s.name},
          {"mean_regret", s.mean_regret},
          {"p95_regret", s.p95_regret},
          {"max_regret", s.max_regret},
          {"random_baseline_regret", s.random_regret},
          {"mean_evaluations", s.mean_evaluations},
          {"max_evaluations", s.max_evaluations},
          {"mean_share_of_space", s.mean_share},
          {"max_evaluations_over_budget", s.max_over_budget},
          {"max_evaluations_over_papers_count", s.max_over_paper},
          {"max_over_default", s.max_over_default},
          {"slower_than_default_beyond_noise", s.slower_than_default}};
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
  print(summaries);
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
  try {
    return flex::bench::run_program(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "flex_search_quality: {}\n", error.what());
    return 2;
  }
}
