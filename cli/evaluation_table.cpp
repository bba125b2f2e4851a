#include "cli/evaluation_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cli/table.h"

namespace flex::cli {
namespace {

constexpr std::size_t kMostRows = 20;
constexpr std::size_t kMostPairs = 10;

std::string class_text(std::int64_t label, std::span<const std::string> class_names) {
  if (class_names.empty()) return fmt::format("{}", label);
  return class_names[static_cast<std::size_t>(label)];
}

double accuracy_of(const ClassifierEvaluation& evaluation, std::int64_t label) {
  return static_cast<double>(evaluation.num_right(label)) /
         static_cast<double>(evaluation.num_of_class(label));
}

// Classes with samples: all of few, in their order; of many those with the lowest accuracy first.
std::vector<std::int64_t> shown_classes(const ClassifierEvaluation& evaluation) {
  std::vector<std::int64_t> classes;
  for (std::int64_t label = 0; label < evaluation.num_classes(); ++label) {
    if (evaluation.num_of_class(label) > 0) classes.push_back(label);
  }
  if (classes.size() <= kMostRows) return classes;
  std::ranges::sort(classes, {},
                    [&](std::int64_t label) { return std::pair(accuracy_of(evaluation, label), label); });
  classes.resize(kMostRows);
  return classes;
}

}  // namespace

std::string evaluation_text(const ClassifierEvaluation& evaluation,
                            std::span<const std::string> class_names) {
  std::string text =
      fmt::format("{} images: top-1 {:.2f}%, top-5 {:.2f}%, cross entropy {:.4f}\n", evaluation.num_samples(),
                  100 * evaluation.top1(), 100 * evaluation.top5(), evaluation.cross_entropy());
  Table classes({{"class", Align::kLeft}, {"images"}, {"right"}, {"accuracy"}});
  for (const std::int64_t label : shown_classes(evaluation)) {
    classes.add({class_text(label, class_names), fmt::format("{}", evaluation.num_of_class(label)),
                 fmt::format("{}", evaluation.num_right(label)),
                 fmt::format("{:.1f}%", 100 * accuracy_of(evaluation, label))});
  }
  text += '\n';
  text += classes.text();
  const std::vector<ConfusedPair> pairs = evaluation.most_confused(kMostPairs);
  if (pairs.empty()) return text;
  Table confused({{"class", Align::kLeft}, {"taken for", Align::kLeft}, {"images"}});
  for (const ConfusedPair& pair : pairs) {
    confused.add({class_text(pair.label, class_names), class_text(pair.predicted, class_names),
                  fmt::format("{}", pair.count)});
  }
  text += '\n';
  text += confused.text();
  return text;
}

}  // namespace flex::cli
