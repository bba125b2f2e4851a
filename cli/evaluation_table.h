#pragma once

#include <span>
#include <string>

#include "models/evaluation.h"

namespace flex::cli {

/// An evaluation as people read it: one line of totals; then, where there are few classes, a table of all of
/// them, else of those that are recognized worst; then the most confused pairs. `class_names` by class, or
/// empty.
[[nodiscard]] std::string evaluation_text(const ClassifierEvaluation& evaluation,
                                          std::span<const std::string> class_names = {});

}  // namespace flex::cli
