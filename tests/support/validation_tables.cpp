#include "tests/support/validation_tables.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <span>

#include "costmodel/cost_parameter_fields.h"
#include "tests/support/paper_predictions.h"

namespace flex::testing {
namespace {

/// How a parameter got its value.
enum class Choice : std::uint8_t { kFitted, kChosen, kSet };

struct ValidatedParameter {
  const char* path;
  const char* unit;
  double low, high;  // what is physically plausible
  Choice choice;
  const char* reason;
};

constexpr ValidatedParameter kParameters[] = {
    {"compute.matrix_efficiency", "of 156 TFLOP/s", 0.45, 0.85, Choice::kFitted,
     "eager batched products with bias and activation; the share table pulls it down, DeepSpeed's curve up"},
    {"compute.half_efficiency_rows", "rows", 4, 128, Choice::kFitted,
     "a tile has 64 to 128 rows; the order of gains at 2,048 GPUs"},
    {"compute.strided_copy_efficiency", "of 2,039 GB/s", 0.05, 0.8, Choice::kFitted,
     "an effective value: see what is not matched"},
    {"inter_node.collective_us", "us a phase", 10, 300, Choice::kFitted,
     "setting up grouped sends and receives; the speedup at 16 GPUs; weakly determined"},
    {"inter_node.message_us", "us", 1, 40, Choice::kFitted,
     "proxy and rendezvous with each peer; the tie at 256 GPUs, pipelining"},
    {"inter_node.bandwidth_efficiency", "of 25 GB/s", 0.75, 0.98, Choice::kFitted,
     "All-to-All at 16 and 64 GPUs"},
    {"inter_node.contention_peers", "peers", 100, 1500, Choice::kFitted,
     "speedup and order of gains at 2,048 GPUs, the tie at 256"},
    {"overlap_linear.compute_factor", "factor", 1, 1.4, Choice::kFitted,
     "NCCL takes SMs and memory bandwidth; one value for both algorithms (apart: 1.257 and 1.256)"},
    {"overlap_2dh.communication_factor", "factor", 1, 1.8, Choice::kFitted,
     "copies and NVLink compete with compute; weakly determined"},
    {"memory.base_GiB", "GiB", 0.8, 1.8, Choice::kFitted,
     "CUDA context, libraries, workspaces; by eye to Tutel's column of the memory table"},
    {"inter_node.contention_exponent", "", 0.7, 2, Choice::kChosen,
     "out of 1, 1.5 and 2; with 1 two lines fail, with 2 and another fit all hold"},
    {"compute.memory_efficiency", "of 2,039 GB/s", 0.4, 0.9, Choice::kSet, "kernels that stream"},
    {"compute.launch_us", "us", 3, 20, Choice::kSet, "eager PyTorch; 10 and 20 fit alike"},
    {"intra_node.bandwidth_efficiency", "of 300 GB/s", 0.15, 0.9, Choice::kSet,
     "the figures show only its sum with strided copies"},
    {"intra_node.message_us", "us", 1, 5, Choice::kSet, "hardly matters"},
    {"overlap_linear.communication_factor", "factor", 1, 1.6, Choice::kSet,
     "bound by the network; a fit gave 1.007"},
};
// intra_node.collective_us is inter_node's, overlap_2dh.compute_factor is overlap_linear's: one parameter
// each.
constexpr std::pair<const char*, const char*> kTied[] = {
    {"inter_node.collective_us", "intra_node.collective_us"},
    {"overlap_linear.compute_factor", "overlap_2dh.compute_factor"}};

const char* name(Choice choice) {
  switch (choice) {
    case Choice::kFitted:
      return "fitted";
    case Choice::kChosen:
      return "chosen";
    case Choice::kSet:
      return "set by hand";
  }
  return "?";
}

CostParameters paper_parameters() { return calibration_of(load_cluster(kPaperCluster)).parameters; }

const CostParameterField& field_of(std::string_view path) {
  for (const CostParameterField& field : cost_parameter_fields()) {
    if (field.path() == path) return field;
  }
  fail("no parameter {}", path);
}

std::string parameter_table(const CostParameters& parameters) {
  std::string text =
      "| parameter | value | unit | physical range | how | why, and what determines it |\n"
      "| --- | --- | --- | --- | --- | --- |\n";
  for (const ValidatedParameter& one : kParameters) {
    text +=
        fmt::format("| `{}` | {} | {} | {} to {} | {} | {} |\n", one.path, field_of(one.path).get(parameters),
                    one.unit, one.low, one.high, name(one.choice), one.reason);
  }
  return text;
}

std::string figure_rows(std::span<const ComparedFigure> figures) {
  std::string text;
  for (const ComparedFigure& figure : figures) {
    const std::string asked = figure.tolerance > 0 ? fmt::format("{:.0f}%", 100 * figure.tolerance) : "-";
    const char* holds = figure.tolerance == 0 ? "not asked" : (figure.holds() ? "yes" : "NO");
    text +=
        fmt::format("| {} | {} | {:.4g} | {:+.1f}% | {} | {} | {} |\n", figure.what, figure.published,
                    figure.predicted, 100 * figure.residual(), asked, holds, figure.in_fit ? "fit" : "check");
  }
  return text;
}

std::string figure_table(const PaperPredictions& predictions) {
  std::string text =
      "| figure | published | predicted | residual | asked | holds | used to |\n"
      "| --- | --- | --- | --- | --- | --- | --- |\n";
  for (const auto& figures :
       {predictions.layer_shares(), predictions.scaling(), predictions.speedups(), predictions.memory()}) {
    text += figure_rows(figures);
  }
  return text;
}

std::string scaling_table(const PaperPredictions& predictions) {
  std::string text =
      "| GPUs | DeepSpeed, s | linear, s | 2DH, s | 2DH / linear | asked | holds |\n"
      "| --- | --- | --- | --- | --- | --- | --- |\n";
  for (const ScalingPrediction& point : predictions.scaling_curve()) {
    std::string asked = point.gpus >= kHierarchicalWinsFrom ? "below 1" : "above 1";
    if (point.gpus == 16) asked = "-";
    if (point.gpus == 256) asked = "within 5% of 1";
    const char* holds = point.gpus == 16 ? "not asked" : (point.is_on_the_right_side() ? "yes" : "NO");
    text += fmt::format("| {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {} | {} |\n", point.gpus,
                        point.deepspeed_s, point.linear_s, point.hierarchical_s, point.ratio(), asked, holds);
  }
  return text;
}

std::string band_table(const PaperPredictions& predictions) {
  std::string text =
      "| step | residual | band of operations alone | band | within |\n| --- | --- | --- | --- | --- |\n";
  const std::vector<BandPrediction> bands = predictions.scaling_bands();
  int within = 0;
  for (const BandPrediction& one : bands) {
    const PassResidual& residual = one.residual;
    const auto percent = [&](double us) { return 100 * us / residual.predicted_us; };
    text += fmt::format("| {} | {:+.1f}% | {:.1f}% | {:.1f}% | {} |\n", one.what,
                        100 * (residual.predicted_us / residual.measured_us - 1),
                        percent(residual.operations_band_us), percent(one.band_us),
                        one.is_within() ? "yes" : "no");
    within += one.is_within() ? 1 : 0;
  }
  return text +
         fmt::format(
             "\n{} of {} within. Errors of whole passes that the steps need: {:.3f} with linear, {:.3f} with "
             "2DH.\n",
             within, bands.size(), needed_pass_error(bands, AllToAllAlgorithm::kLinear),
             needed_pass_error(bands, AllToAllAlgorithm::kHierarchical2d));
}

std::string pipelining_table(const PaperPredictions& predictions) {
  std::string text =
      "| GPUs | algorithm | d = 1 | d = 2 | d = 4 | d = 8 | pairs in the right order | used to |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const PipeliningGains& published : kPipelining) {
    const PipeliningPrediction predicted = predictions.pipelining(published);
    for (std::size_t i = 0; i < published.percent.size(); ++i) {
      if (i % 4 == 0) text += fmt::format("| {} | {} ", published.gpus, i == 0 ? "linear" : "2DH");
      text += fmt::format("| {} -> {:.1f} ", published.percent[i], predicted.percent[i]);
      if (i % 4 == 3) {
        text += fmt::format("| {} of {} | {} |\n", predicted.right_order, predicted.pairs,
                            published.in_fit ? "fit" : "check");
      }
    }
  }
  return text;
}

void set(CostParameters& parameters, std::string_view path, double value) {
  field_of(path).of(parameters) = value;
  for (const auto& [from, to] : kTied) {
    if (path == from) field_of(to).of(parameters) = value;
  }
}

/// The last value, walking away from the shipped one in steps of `factor`, at which all lines hold; nothing
/// if they still do where the walk ends.
std::optional<double> last_that_holds(const CostParameters& parameters, const ValidatedParameter& one,
                                      double factor) {
  constexpr double kFarthest = 2.7;
  const double shipped = field_of(one.path).get(parameters);
  double last = shipped;
  for (double value = shipped * factor; std::abs(std::log(value / shipped)) <= std::log(kFarthest);
       value *= factor) {
    CostParameters moved = parameters;
    set(moved, one.path, value);
    const bool possible = value >= field_of(one.path).range.min;
    if (!possible || !broken_lines(PaperPredictions(moved)).empty()) return last;
    last = value;
  }
  return std::nullopt;
}

}  // namespace

std::string validation_tables() {
  const CostParameters parameters = paper_parameters();
  const PaperPredictions predictions(parameters);
  int fitted = 0;
  int figures = 0;
  for (const ValidatedParameter& one : kParameters) fitted += one.choice == Choice::kFitted ? 1 : 0;
  for (const auto& group :
       {predictions.layer_shares(), predictions.scaling(), predictions.speedups(), predictions.memory()}) {
    figures += static_cast<int>(group.size());
  }
  figures += static_cast<int>(kPipelining.size() * kPipelining[0].percent.size());
  return "### Parameters\n\n" + parameter_table(parameters) +
         fmt::format("\n{} parameters fitted, {} in all, {} figures.\n", fitted, std::size(kParameters),
                     figures) +
         "\n### Figures\n\n" + figure_table(predictions) + "\n### Scale\n\n" + scaling_table(predictions) +
         "\n### Band\n\nHow far the model thinks that it errs, as a part of the prediction.\n\n" +
         band_table(predictions) +
         "\n### Pipelining\n\nAverage gain of adaptive pipelining in percent, published -> predicted.\n\n" +
         pipelining_table(predictions);
}

std::string parameter_range_table() {
  constexpr double kStep = 1.02;
  const CostParameters parameters = paper_parameters();
  std::string text = "| parameter | value | all lines hold from | to |\n| --- | --- | --- | --- |\n";
  for (const ValidatedParameter& one : kParameters) {
    const auto shown = [](std::optional<double> value) {
      return value ? fmt::format("{:.3g}", *value) : std::string("no limit found");
    };
    text += fmt::format("| `{}` | {} | {} | {} |\n", one.path, field_of(one.path).get(parameters),
                        shown(last_that_holds(parameters, one, 1 / kStep)),
                        shown(last_that_holds(parameters, one, kStep)));
  }
  return text;
}

}  // namespace flex::testing
