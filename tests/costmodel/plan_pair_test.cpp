#include "costmodel/plan_pair.h"

#include <gmock/gmock.h>

#include "base/error.h"

namespace flex {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(PlanPair, IsPrintedAndParsedBack) {
  const PlanPair both{parse_plan("r2 d4 2dh"), parse_plan("r2 d1 linear")};
  EXPECT_EQ(to_string(both), "r2 d4 2dh / r2 d1 linear");
  EXPECT_EQ(parse_plan_pair(to_string(both)), both);
  const PlanPair one{parse_plan("r0 counted"), parse_plan("r0 counted")};
  EXPECT_EQ(to_string(one), "r0 d1 linear counted");
  EXPECT_EQ(parse_plan_pair(to_string(one)), one);
  EXPECT_EQ(parse_plan_pair("r2 d4/r2"), (PlanPair{parse_plan("r2 d4"), parse_plan("r2")}));
}

TEST(PlanPair, RefusesWhatCannotPair) {
  EXPECT_THAT([] { static_cast<void>(parse_plan_pair("r2 / r1")); },
              ThrowsMessage<InputError>(
                  HasSubstr("the backward plan 'r1 d1 linear' must use the forward plan's r2")));
  EXPECT_THAT([] { static_cast<void>(parse_plan_pair("r2 counted / r2")); },
              ThrowsMessage<InputError>(HasSubstr("must be counted, as the forward plan is")));
  EXPECT_THROW(static_cast<void>(parse_plan_pair("r2 / ")), InputError);
  EXPECT_THROW(static_cast<void>(parse_plan_pair("r1 / r1 / r1")), InputError);
}

}  // namespace
}  // namespace flex
