#include "base/error.h"
#include "models/model_summary.h"
#include "models/training_config.h"
#include "tests/fuzz/fuzz.h"

/// A model's file. One that is taken can be summed up.
void fuzz_one(std::string_view input) {
  try {
    const flex::ModelFile file = flex::parse_model_file(input, "model.json");
    (void)flex::summarize(file.model, file.model.moe.training);
  } catch (const flex::InputError&) {  // NOLINT(bugprone-empty-catch): refused, as promised
  }
}
