#include "traces/routing_trace.h"

#include <gmock/gmock.h>

#include <limits>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/traces/cases.h"

namespace flex {
namespace {

using testing::small_forward;
using testing::small_header;

// T is 3, of rank 0; ceil(3 / 8) = 1 slot per expert, f = 1.25 keeps it 1, and k = 2 makes it 2.
TEST(RoutingTrace, WorkloadHasTheCapacityOfTheLayer) {
  const TraceHeader header = small_header();
  const Workload fixed = workload_of(header, small_forward(), Pass::kBackward);
  EXPECT_EQ(fixed.num_tokens, 3);
  EXPECT_EQ(fixed.capacity, 2);
  EXPECT_EQ(fixed.pass, Pass::kBackward);
  EXPECT_FALSE(fixed.dropless);
  EXPECT_EQ(fixed.world, 4);
  EXPECT_EQ(fixed.hidden_dim, 128);
  const Workload dropless = workload_of(header, small_forward(0, 1), Pass::kForward);
  EXPECT_EQ(dropless.capacity, 3) << "what is needed";
  EXPECT_TRUE(dropless.dropless);
}

TEST(RoutingTrace, ARecordMayHaveItsOwnKAndF) {
  TraceRecord record = small_forward();
  record.top_k = 1;
  record.capacity_factor = -0.5;
  const Workload w = workload_of(small_header(), record, Pass::kForward);
  EXPECT_EQ(w.top_k, 1);
  EXPECT_EQ(w.num_tokens, 6);
  EXPECT_EQ(w.capacity, 0) << "floor(0.5 * 1) of the 3 that are needed";
  EXPECT_TRUE(w.dropless);
}

TEST(RoutingTrace, LoadIsUnevenOnlyWithoutAFixedCapacity) {
  EXPECT_DOUBLE_EQ(load_of(small_header(), small_forward(0, 0)).max_over_mean, 1);
  EXPECT_DOUBLE_EQ(load_of(small_header(), small_forward(0, 1)).max_over_mean, 2.4);
}

TEST(RoutingTrace, AStepWithoutTokensIsAWorkload) {
  const Workload w = workload_of(small_header(), {.step = 1, .layer = 1}, Pass::kForward);
  EXPECT_EQ(w.num_tokens, 0);
  EXPECT_EQ(w.capacity, 0);
}

// What is wrong with a header in which `change` was made.
template <class Change>
std::string refusal(Change change) {
  TraceHeader header = small_header();
  change(header);
  return message_of<InputError>([&] { validate(header); });
}

TEST(RoutingTrace, HeadersThatCannotBeAreNamed) {
  EXPECT_EQ(refusal([](auto& h) { h.world = 0; }), "world: is 0; it is from 1 to 1048576");
  EXPECT_EQ(refusal([](auto& h) { h.ranks_per_node = 3; }), "ranks_per_node: is 3; it divides the 4 ranks");
  EXPECT_EQ(refusal([](auto& h) { h.layers.clear(); }), "layers: there are 0; a trace has 1 to 4096");
  EXPECT_EQ(refusal([](auto& h) { h.origins.clear(); }),
            "origins: there are none; the first says what made the trace");
  EXPECT_EQ(refusal([](auto& h) { h.layers[1].workload.world = 2; }),
            "layers[1]: is for 2 ranks; the trace has 4");
  EXPECT_EQ(refusal([](auto& h) { h.layers[1].workload.num_experts = 6; }),
            "layers[1]: 6 experts do not spread over 4 ranks: one must divide the other");
  EXPECT_EQ(refusal([](auto& h) { h.layers[0].workload.num_experts = std::int64_t{1} << 40; }),
            "layers[0]: num_experts is 1099511627776; it is at most 1048576");
  EXPECT_EQ(refusal([](auto& h) { h.layers[0].workload.num_tokens = std::int64_t{1} << 31; }),
            "layers[0]: num_tokens is 2147483648; it is at most 2147483647");
  EXPECT_EQ(refusal([](auto& h) { h.layers[0].capacity_factor = std::numeric_limits<double>::infinity(); }),
            "layers[0]: capacity_factor is inf; it is finite");
  EXPECT_EQ(refusal([](auto& h) { h.layers[0].capacity_factor = 0; }),
            "layers[0]: a layer is dropless exactly if its capacity_factor is not above 0; it is 0");
  EXPECT_EQ(refusal([](auto& h) { h.model = "two\nlines"; }),
            "model: has a control character; it is one line of text");
  EXPECT_EQ(refusal([](auto& h) { h.origins[0].file = std::string(5000, 'x'); }),
            "origins[0]: has 5000 bytes; it has at most 4096");
}

}  // namespace
}  // namespace flex
