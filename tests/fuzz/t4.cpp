#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "tests/fuzz/fuzz.h"
#include "tuner/interchange.h"

/// Results in the format T4 that `flexmoe cache import` reads. Those that are taken can be written and read.
void fuzz_one(std::string_view input) {
  std::vector<flex::KeyedTrial> trials;
  try {
    trials = flex::parse_t4(flex::parse_json(input, "t4.json"), "t4.json");
  } catch (const flex::InputError&) {
    return;
  }
  const std::string text = flex::to_t4(trials).dump();
  const auto again = flex::parse_t4(flex::parse_json(text, "again"), "again");
  flex::testing::require_promise(again.size() == trials.size(), "as many trials are written as were read");
}
