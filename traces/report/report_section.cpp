#include "traces/report/report_section.h"

#include <utility>

namespace flex {
namespace {

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

void add_names_of(const ReplayDocument& document, Palette& palette) {
  // What best-static is in the first scenario; elsewhere it may be another plan.
  for (const ReportPolicy& policy : document.scenarios.front().policies) {
    palette.add(policy.name);
    if (!policy.resolved.empty()) palette.add_alias(policy.resolved, policy.name);
  }
  for (const ReportScenario& scenario : document.scenarios) {
    for (const ReportPolicy& policy : scenario.policies) palette.add(policy.name);
  }
  // The most used plans of each policy first, so that rare ones share the grey.
  for (std::size_t rank = 0; rank < Palette::kNumColours; ++rank) {
    for (const ReportScenario& scenario : document.scenarios) {
      for (const ReportPolicy& policy : scenario.policies) {
        if (rank < policy.plans.size()) palette.add(policy.plans[rank]);
      }
    }
  }
}

}  // namespace

void add_names(const ReportDocument& document, Palette& palette) {
  std::visit(Overloaded{[&](const ReplayDocument& replay) { add_names_of(replay, palette); },
                        [&](const TuneDocument& tune) {
                          for (const ReportLayer& layer : tune.layers) palette.add(layer.best().plans());
                        },
                        [&](const SimulateDocument& simulate) {
                          for (const ReportSize& size : simulate.sizes) {
                            for (const ReportPrediction& one : size.predictions) palette.add(one.plans);
                          }
                        },
                        [&](const TrainingDocument& training) {
                          for (const ReportRun& run : training.runs) palette.add(run.name);
                        }},
             document.content);
}

ReportSection section_of(const ReportDocument& document, const Palette& palette) {
  return std::visit(
      Overloaded{[&](const ReplayDocument& replay) { return replay_section(replay, palette); },
                 [&](const TuneDocument& tune) { return tune_section(tune, palette); },
                 [&](const SimulateDocument& simulate) { return simulate_section(simulate, palette); },
                 [&](const TrainingDocument& training) { return training_section(training, palette); }},
      document.content);
}

HtmlCell figure_cell(std::string text, std::string at, double value) {
  return {.text = std::move(text), .at = std::move(at), .value = nlohmann::json(value).dump()};
}

HtmlCell figure_cell(std::string text, std::string at, std::int64_t value) {
  return {.text = std::move(text), .at = std::move(at), .value = nlohmann::json(value).dump()};
}

}  // namespace flex
