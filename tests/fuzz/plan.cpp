#include "base/error.h"
#include "costmodel/plan_pair.h"
#include "tests/fuzz/fuzz.h"

/// `r1 d2 linear`, or two: of FLEX_PLAN and options. One that is taken is itself again.
void fuzz_one(std::string_view input) {
  flex::PlanPair plans;
  try {
    plans = flex::parse_plan_pair(input);
  } catch (const flex::InputError&) {
    return;
  }
  const flex::PlanPair again = flex::parse_plan_pair(flex::to_string(plans));
  flex::testing::require_promise(again.forward == plans.forward && again.backward == plans.backward,
                                 "a plan's text is that plan");
}
