#include "cli/explain_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <span>

#include "cli/table.h"

namespace flex::cli {
namespace {

std::string predicted_text(const ExplainedPlan& one, Pass pass) {
  const auto found = one.predicted.find(pass);
  if (found == one.predicted.end()) return "-";
  const PlanPrediction& p = found->second;
  return fmt::format("{} ± {:.0f}%", format_us(p.total_us), 100 * p.error_us / p.total_us);
}

std::string trial_text(const ExplainedPlan& one, Pass pass) {
  const auto found = one.trials.find(pass);
  if (found == one.trials.end()) return "-";
  const Trial& trial = found->second;
  if (trial.samples_ns.empty()) return std::string(name(trial.outcome));
  const auto median_us = static_cast<double>(trial.median_ns) * 1e-3;
  std::string text = format_us(median_us);
  if (trial.samples_ns.size() > 1) {
    text += fmt::format(" ± {:.0f}% of {}",
                        100 * static_cast<double>(trial.spread_ns) / static_cast<double>(trial.median_ns),
                        trial.samples_ns.size());
  }
  if (trial.source != TrialSource::kMeasured) text += fmt::format(", {}", name(trial.source));
  return text;
}

std::string mark(const Explanation& explanation, const Plan& plan) {
  const auto& [forward, backward] = explanation.chosen;
  std::string text = plan == forward && plan == backward ? "chosen"
                     : plan == forward                   ? "forward"
                     : plan == backward                  ? "backward"
                                                         : "";
  if (plan == kDefaultPlan) text += text.empty() ? "default" : ", default";
  return text;
}

std::string decision_text(const std::optional<Decision>& decision) {
  if (!decision) return "no decision";
  const double gain =
      100 * (static_cast<double>(decision->default_median_ns) / static_cast<double>(decision->median_ns) - 1);
  return fmt::format("{}, {} by {}, {} trial(s) compared, {:+.1f}% over its default, search {}",
                     to_string(decision->plan), name(decision->source), decision->strategy,
                     decision->num_trials, gain, decision->is_complete ? "complete" : "cut short");
}

/// What of a case a user can look for in the cache.
std::string case_text(const TuningKey& key) {
  const std::int64_t first = std::int64_t{key.one.capacity_bucket} * 128;
  std::string text = fmt::format("{} pass", name(key.one.pass));
  if (key.one.given_degree != kFreeDegree) text += fmt::format(", r{} given", key.one.given_degree);
  return fmt::format("{}: case {}, capacity bucket {} ({} to {}), imbalance bucket {}", text,
                     case_name(key).substr(0, 8), key.one.capacity_bucket, first, first + 127,
                     key.one.imbalance_bucket);
}

/// The first few of many.
std::string list_text(const std::vector<std::string>& plans) {
  constexpr std::size_t kMost = 8;
  const std::span shown(plans.data(), std::min(kMost, plans.size()));
  const std::string more = plans.size() > kMost ? fmt::format(" and {} more", plans.size() - kMost) : "";
  return fmt::format("{}{}", fmt::join(shown, ", "), more);
}

}  // namespace

std::string explanation_text(const Explanation& e) {
  const Workload& workload = e.target.problem.workload;
  std::string text =
      fmt::format("{}, capacity {}\n{}\n{}\n", e.where, workload.capacity, e.calibration, e.cache);
  text += fmt::format("runs {}: {}\n\n", to_string(e.chosen), e.why);
  for (const auto& [pass, decision] : e.decisions) {
    text += fmt::format("{}\n  {}\n", case_text(e.target.key_of(e.chosen.of(pass), pass)),
                        decision_text(decision));
  }
  text += "\n";
  Table table({{"plan", Align::kLeft},
               {"forward, predicted"},
               {"tried"},
               {"backward, predicted"},
               {"tried"},
               {"memory"},
               {"", Align::kLeft}});
  for (const ExplainedPlan& one : e.candidates) {
    table.add({to_string(one.plan), predicted_text(one, Pass::kForward), trial_text(one, Pass::kForward),
               predicted_text(one, Pass::kBackward), trial_text(one, Pass::kBackward),
               format_bytes(static_cast<double>(one.memory_bytes)), mark(e, one.plan)});
  }
  text += table.text();
  text += "tried: median, spread and number of samples. memory: of the layer on one rank.\n";
  for (const auto& [reason, plans] : e.illegal) {
    text += fmt::format("cannot run: {}\n  {}\n", list_text(plans), reason);
  }
  return text;
}

nlohmann::ordered_json explanation_json(const Explanation& e) {
  nlohmann::ordered_json candidates = nlohmann::ordered_json::array();
  for (const ExplainedPlan& one : e.candidates) {
    nlohmann::ordered_json json = {{"plan", to_string(one.plan)}, {"memory_bytes", one.memory_bytes}};
    for (const auto& [pass, p] : one.predicted) {
      json[std::string(name(pass))]["predicted_us"] = p.total_us;
      json[std::string(name(pass))]["error_us"] = p.error_us;
    }
    for (const auto& [pass, trial] : one.trials) {
      json[std::string(name(pass))]["tried"] = {{"source", name(trial.source)},
                                                {"outcome", name(trial.outcome)},
                                                {"median_ns", trial.median_ns},
                                                {"spread_ns", trial.spread_ns},
                                                {"samples", trial.samples_ns.size()}};
    }
    candidates.push_back(std::move(json));
  }
  nlohmann::ordered_json cases = nlohmann::ordered_json::array();
  for (const auto& [pass, decision] : e.decisions) {
    const TuningKey key = e.target.key_of(e.chosen.of(pass), pass);
    nlohmann::ordered_json json = {{"pass", name(pass)},
                                   {"case", case_name(key)},
                                   {"capacity_bucket", key.one.capacity_bucket},
                                   {"imbalance_bucket", key.one.imbalance_bucket}};
    if (decision) {
      json["decision"] = {
          {"plan", to_string(decision->plan)}, {"source", name(decision->source)},
          {"strategy", decision->strategy},    {"complete", decision->is_complete},
          {"median_ns", decision->median_ns},  {"default_median_ns", decision->default_median_ns}};
    }
    cases.push_back(std::move(json));
  }
  nlohmann::ordered_json illegal = nlohmann::ordered_json::array();
  for (const auto& [reason, plans] : e.illegal) {
    illegal.push_back({{"reason", reason}, {"plans", plans}});
  }
  return {{"on", e.where},
          {"cache", e.cache},
          {"capacity", e.target.problem.workload.capacity},
          {"plan", to_string(e.chosen.forward)},
          {"backward_plan", to_string(e.chosen.backward)},
          {"why", e.why},
          {"cases", std::move(cases)},
          {"candidates", std::move(candidates)},
          {"illegal", std::move(illegal)}};
}

}  // namespace flex::cli
