#include "cli/cache_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/table.h"
#include "tuner/interchange.h"
#include "tuner/key_json.h"

namespace flex::cli {
namespace {

constexpr std::int64_t kCapacityStep = 128;
constexpr std::size_t kShortName = 8;  // digits of a case that nearly always suffice
constexpr double kNsPerUs = 1e3;

std::string time_text(std::int64_t ns) { return format_us(static_cast<double>(ns) / kNsPerUs); }

std::string layer_text(const TunedLayer& layer) {
  return fmt::format("E {} k {} M {} H {} {}{}", layer.num_experts, layer.top_k, layer.model_dim,
                     layer.hidden_dim, name(layer.dtype), layer.dropless ? " dropless" : "");
}

std::string pass_text(const TuningCase& one) {
  return one.given_degree == kFreeDegree ? std::string(name(one.pass))
                                         : fmt::format("{}, r{} given", name(one.pass), one.given_degree);
}

std::string capacity_text(const TuningCase& one) {
  const std::int64_t first = one.capacity_bucket * kCapacityStep;
  return fmt::format("{}..{}", first, first + kCapacityStep - 1);
}

std::string gain_text(const Decision& d) {
  const double gain = static_cast<double>(d.default_median_ns) / static_cast<double>(d.median_ns) - 1;
  return fmt::format("{:+.1f}%", 100 * gain);
}

std::string search_text(const Decision& d) {
  return fmt::format("{}{}", d.strategy, d.is_complete ? "" : " (incomplete)");
}

nlohmann::ordered_json summary_json(const CachedCase& one) {
  nlohmann::ordered_json json = {{"name", case_name(one.key)}};
  json.update(to_json(one.key));
  json["num_trials"] = one.num_trials;
  json["decision"] = one.decision ? to_json(*one.decision) : nlohmann::ordered_json();
  return json;
}

std::string environment_text(const Environment& e) {
  const auto known = [](const std::string& text) { return text.empty() ? "-" : text; };
  return fmt::format(
      "{} ranks, {} on a node, {} on a device; device {}; links {} and {}; driver {}, CUDA {}, NCCL {}, Flex "
      "{}",
      e.world, e.ranks_per_node, e.ranks_per_device, known(e.device), known(e.intra_node),
      known(e.inter_node), known(e.driver), known(e.cuda), known(e.nccl), known(e.build));
}

std::string plan_text(const std::optional<Decision>& decision) {
  return decision ? to_string(decision->plan) : "-";
}

}  // namespace

std::string cases_text(const std::vector<CachedCase>& cases) {
  Table table({{"case", Align::kLeft},
               {"device", Align::kLeft},
               {"ranks"},
               {"layer", Align::kLeft},
               {"pass", Align::kLeft},
               {"capacity"},
               {"imbalance"},
               {"plan", Align::kLeft},
               {"time"},
               {"gain"},
               {"trials"},
               {"source", Align::kLeft},
               {"search", Align::kLeft}});
  for (const CachedCase& one : cases) {
    const Environment& environment = one.key.environment;
    std::vector<std::string> row = {case_name(one.key).substr(0, kShortName),
                                    environment.device.empty() ? "-" : environment.device,
                                    fmt::format("{}", environment.world),
                                    layer_text(one.key.layer),
                                    pass_text(one.key.one),
                                    capacity_text(one.key.one),
                                    fmt::format("{}", one.key.one.imbalance_bucket),
                                    plan_text(one.decision)};
    if (const auto& d = one.decision) {
      row.insert(row.end(), {time_text(d->median_ns), gain_text(*d)});
    } else {
      row.insert(row.end(), {"-", "-"});
    }
    row.push_back(fmt::format("{}", one.num_trials));
    if (const auto& d = one.decision) row.insert(row.end(), {std::string(name(d->source)), search_text(*d)});
    table.add(std::move(row));
  }
  return table.text();
}

nlohmann::ordered_json cases_json(const std::vector<CachedCase>& cases) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const CachedCase& one : cases) rows.push_back(summary_json(one));
  return rows;
}

std::string case_text(const CachedCase& one, const std::vector<Trial>& trials) {
  std::string text =
      fmt::format("case {}\n{}\nlayer {}; {}; capacity {}; imbalance bucket {}\n", case_name(one.key),
                  environment_text(one.key.environment), layer_text(one.key.layer), pass_text(one.key.one),
                  capacity_text(one.key.one), one.key.one.imbalance_bucket);
  if (const auto& d = one.decision) {
    text += fmt::format("plan {}: {}, {} over {}; of {} plans, {}, {}, {}\n", to_string(d->plan),
                        time_text(d->median_ns), gain_text(*d), to_string(default_plan(one.key.one)),
                        d->num_trials, name(d->source), search_text(*d), timestamp_text(d->decided_at_ns));
  } else {
    text += "no decision: no trial of the default plan, or no search has ended\n";
  }
  Table table({{"plan", Align::kLeft},
               {"median"},
               {"spread"},
               {"samples"},
               {"outcome", Align::kLeft},
               {"tokens"},
               {"capacity"},
               {"warm-up"},
               {"repeats"},
               {"clock MHz"},
               {"source", Align::kLeft},
               {"when", Align::kLeft},
               {"origin", Align::kLeft}});
  std::vector<Trial> fastest_first = trials;
  std::ranges::stable_sort(fastest_first, {}, [](const Trial& t) {
    return std::pair(t.outcome != TrialOutcome::kCorrect, t.median_ns);
  });
  for (const Trial& t : fastest_first) {
    const bool ran = t.outcome == TrialOutcome::kCorrect;
    table.add({to_string(t.plan), ran ? time_text(t.median_ns) : "-", ran ? time_text(t.spread_ns) : "-",
               fmt::format("{}", t.samples_ns.size()), std::string(name(t.outcome)),
               fmt::format("{}", t.num_tokens), fmt::format("{}", t.capacity),
               fmt::format("{}", t.num_warmup), fmt::format("{}", t.num_repeats),
               t.device_clock_MHz == 0 ? "-" : fmt::format("{}", t.device_clock_MHz),
               std::string(name(t.source)), timestamp_text(t.measured_at_ns).substr(0, 19), t.origin});
  }
  return text + "\n" + table.text();
}

nlohmann::ordered_json case_json(const CachedCase& one, const std::vector<Trial>& trials) {
  std::vector<KeyedTrial> keyed;
  for (const Trial& trial : trials) keyed.push_back({one.key, trial});
  nlohmann::ordered_json json = summary_json(one);
  json["trials"] = to_t4(keyed)["results"];
  return json;
}

std::string differences_text(const std::vector<CaseDifference>& differences) {
  Table table({{"case", Align::kLeft},
               {"layer", Align::kLeft},
               {"pass", Align::kLeft},
               {"capacity"},
               {"imbalance"},
               {"left", Align::kLeft},
               {"time"},
               {"right", Align::kLeft},
               {"time"}});
  const auto time = [](const std::optional<Decision>& d) {
    return d ? time_text(d->median_ns) : std::string("-");
  };
  for (const auto& [key, left, right] : differences) {
    table.add({case_name(key).substr(0, kShortName), layer_text(key.layer), pass_text(key.one),
               capacity_text(key.one), fmt::format("{}", key.one.imbalance_bucket), plan_text(left),
               time(left), plan_text(right), time(right)});
  }
  return table.text();
}

nlohmann::ordered_json differences_json(const std::vector<CaseDifference>& differences) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& [key, left, right] : differences) {
    nlohmann::ordered_json row = {{"name", case_name(key)}};
    row.update(to_json(key));
    row["left"] = left ? to_json(*left) : nlohmann::ordered_json();
    row["right"] = right ? to_json(*right) : nlohmann::ordered_json();
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace flex::cli
