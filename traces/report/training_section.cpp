#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "traces/report/curves_chart.h"
#include "traces/report/report_section.h"

namespace flex {
namespace {

/// What a run came to.
struct RunOutcome {
  std::int64_t steps = 0;
  std::int64_t epoch = 0;
  std::optional<double> first_loss, last_loss;  // of the first and last tenth of its lines
  const EvaluationMetrics* best = nullptr;      // highest top-1
  const EvaluationMetrics* last = nullptr;
  std::optional<double> images_per_s;  // median
  std::optional<double> moe_share;     // median
  std::int64_t skipped = 0;
};

std::optional<double> median_of(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return std::nullopt;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

template <class Records, class Value>
std::vector<double> values_of(const Records& records, const Value& value) {
  std::vector<double> values;
  for (const auto& record : records) values.push_back(value(record));
  return values;
}

double moe_share_of(const StepMetrics& step) { return step.moe_share.value_or(kNoFigure); }

RunOutcome outcome_of(const TrainingMetrics& metrics) {
  RunOutcome outcome;
  const auto& steps = metrics.steps;
  if (!steps.empty()) {
    outcome.steps = steps.back().step;
    outcome.epoch = steps.back().epoch;
    const auto tenth = static_cast<std::ptrdiff_t>(std::max<std::size_t>(1, steps.size() / 10));
    const std::vector<double> losses = values_of(steps, [](const StepMetrics& step) { return step.loss; });
    outcome.first_loss = median_of({losses.begin(), losses.begin() + tenth});
    outcome.last_loss = median_of({losses.end() - tenth, losses.end()});
    outcome.images_per_s = median_of(values_of(steps, [](const auto& step) { return step.images_per_s; }));
    outcome.moe_share = median_of(values_of(steps, moe_share_of));
    outcome.skipped = std::ranges::count(steps, false, &StepMetrics::updated);
  }
  if (!metrics.evaluations.empty()) {
    outcome.best = &*std::ranges::max_element(metrics.evaluations, {}, &EvaluationMetrics::top1);
    outcome.last = &metrics.evaluations.back();
    outcome.steps = std::max(outcome.steps, outcome.last->step);
  }
  return outcome;
}

std::string loss_text(std::optional<double> loss) {
  return loss && std::isfinite(*loss) ? fmt::format("{:.4f}", *loss) : "–";
}

std::string rate_text(std::optional<double> images_per_s) {
  if (!images_per_s) return "–";
  return *images_per_s < 100 ? fmt::format("{:.1f}", *images_per_s) : fmt::format("{:.0f}", *images_per_s);
}

HtmlTable summary_of(const TrainingDocument& document) {
  HtmlTable table{.columns = {"run", "steps", "epoch", "loss", "evaluation loss", "top-1", "top-5",
                              "best top-1", "at step", "images/s", "MoE share", "skipped steps"}};
  for (const ReportRun& run : document.runs) {
    const RunOutcome outcome = outcome_of(run.metrics);
    const bool evaluated = outcome.last != nullptr;
    table.rows.push_back({{run.name},
                          {fmt::format("{}", outcome.steps)},
                          {fmt::format("{}", outcome.epoch)},
                          {loss_text(outcome.last_loss)},
                          {evaluated ? loss_text(outcome.last->loss) : "–"},
                          {evaluated ? percent_text(outcome.last->top1) : "–"},
                          {evaluated ? percent_text(outcome.last->top5) : "–"},
                          {evaluated ? percent_text(outcome.best->top1) : "–"},
                          {evaluated ? fmt::format("{}", outcome.best->step) : "–"},
                          {rate_text(outcome.images_per_s)},
                          {percent_text(outcome.moe_share)},
                          {fmt::format("{}", outcome.skipped)}});
  }
  return table;
}

/// Makes the curves of all runs of a document.
class RunCurves {
 public:
  RunCurves(const TrainingDocument& document, const Palette& palette)
      : document_(document), palette_(palette) {}

  template <class Value>
  [[nodiscard]] std::vector<Curve> of_steps(const Value& value, const std::string& what = {}) const {
    std::vector<Curve> curves;
    for (const ReportRun& run : document_.runs)
      curves.push_back(curve(run, run.metrics.steps, value, what, LegendEntry::Shape::kLine));
    return curves;
  }

  template <class Value>
  void add_evaluations(std::vector<Curve>& curves, const Value& value, const std::string& what,
                       LegendEntry::Shape line) const {
    for (const ReportRun& run : document_.runs) {
      curves.push_back(curve(run, run.metrics.evaluations, value, what, line));
      curves.back().shows_points = true;
    }
  }

 private:
  template <class Records, class Value>
  [[nodiscard]] Curve curve(const ReportRun& run, const Records& records, const Value& value,
                            const std::string& what, LegendEntry::Shape line) const {
    Curve curve{.name = run.name, .colour = palette_.colour(run.name), .line = line};
    if (!what.empty()) curve.name = document_.runs.size() > 1 ? run.name + ", " + what : what;
    for (const auto& record : records) {
      const double figure = value(record);
      if (std::isfinite(figure)) curve.points.push_back({record.step, figure});
    }
    return curve;
  }

  const TrainingDocument& document_;
  const Palette& palette_;
};

std::vector<Chart> charts_of(const TrainingDocument& document, const Palette& palette) {
  using Shape = LegendEntry::Shape;
  const RunCurves runs(document, palette);
  std::vector<Chart> charts;
  const auto add = [&](const char* title, std::vector<Curve> curves, const CurveAxis& axis) {
    if (auto chart = curves_chart(title, std::move(curves), axis)) charts.push_back(std::move(*chart));
  };
  const auto loss_of = [](const auto& record) { return record.loss; };
  std::vector<Curve> losses = runs.of_steps(loss_of, "training");
  runs.add_evaluations(losses, loss_of, "evaluation", Shape::kDashed);
  add("Loss", std::move(losses), {.title = "loss", .from_zero = false});
  std::vector<Curve> accuracies;
  runs.add_evaluations(
      accuracies, [](const auto& one) { return one.top1; }, "top-1", Shape::kLine);
  runs.add_evaluations(
      accuracies, [](const auto& one) { return one.top5; }, "top-5", Shape::kDashed);
  add("Accuracy", std::move(accuracies), {.title = "accuracy", .format = "%"});
  add("Gradient norm", runs.of_steps([](const auto& step) { return step.gradient_norm; }),
      {.title = "gradient norm before clipping", .may_be_logarithmic = true});
  add("Learning rate", runs.of_steps([](const auto& step) { return step.learning_rate; }),
      {.title = "learning rate"});
  add("Speed", runs.of_steps([](const auto& step) { return step.images_per_s; }), {.title = "images/s"});
  add("Share of the MoE layers", runs.of_steps(moe_share_of),
      {.title = "share of a step's time", .format = "%"});
  return charts;
}

std::string headline_of(const TrainingDocument& document) {
  std::int64_t steps = 0;
  for (const ReportRun& run : document.runs) steps = std::max(steps, outcome_of(run.metrics).steps);
  return document.runs.size() == 1
             ? fmt::format("A run of {} steps.", steps)
             : fmt::format("{} runs of up to {} steps, drawn over each other.", document.runs.size(), steps);
}

std::vector<std::string> highlights_of(const TrainingDocument& document) {
  const auto best_of = [](const ReportRun& run) {
    const RunOutcome outcome = outcome_of(run.metrics);
    return outcome.best == nullptr ? -1 : outcome.best->top1;
  };
  // That of the best accuracy, or the first.
  const ReportRun* main = &*std::ranges::max_element(document.runs, {}, best_of);
  const RunOutcome outcome = outcome_of(main->metrics);
  const std::string who = document.runs.size() > 1 ? main->name + ": " : "";
  std::vector<std::string> lines;
  if (outcome.best != nullptr)
    lines.push_back(fmt::format("{}best top-1 accuracy {} after {} steps", who,
                                percent_text(outcome.best->top1), outcome.best->step));
  if (outcome.last_loss)
    lines.push_back(fmt::format("{}loss from {} to {} in {} steps", who, loss_text(outcome.first_loss),
                                loss_text(outcome.last_loss), outcome.steps));
  if (outcome.images_per_s) {
    std::string line = fmt::format("{}{} images/s", who, rate_text(outcome.images_per_s));
    if (outcome.moe_share)
      line += fmt::format("; MoE layers take {} of a step", percent_text(outcome.moe_share));
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

ReportSection training_section(const TrainingDocument& document, const Palette& palette) {
  ReportSection section{
      .kind = "Training",
      .headline = headline_of(document),
      .notes = {"Loss, images/s and MoE share of the summary are medians: the loss that of the last tenth of "
                "the logged steps, the others those of all. Skipped steps had a gradient that was not "
                "finite."},
      .summary = summary_of(document),
      .highlights = highlights_of(document)};
  std::vector<Chart> charts = charts_of(document, palette);
  for (std::size_t i = 0; i < charts.size(); i += 2) {
    ChartRow row;
    for (std::size_t j = i; j < std::min(i + 2, charts.size()); ++j) {
      row.captions.emplace_back();
      row.charts.push_back(std::move(charts[j]));
    }
    section.rows.push_back(std::move(row));
  }
  return section;
}

}  // namespace flex
