#include "tuner/policy.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "tests/tuner/policy_cases.h"
#include "tuner/dictionary_search.h"
#include "tuner/landscape.h"

namespace flex {
namespace {

using ::testing::HasSubstr;
using testing::kDefaultPlans;
using testing::load_at;
using testing::on_ndv4;
using testing::shared_expert;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "none";
}

PlanPair pair_of(const char* forward, const char* backward) {
  return {parse_plan(forward), parse_plan(backward)};
}

TEST(PolicySpec, ReadsBackWhatItPrints) {
  for (const char* text : {"static:r1 d2 2dh", "static:r0 d1 linear", "static:r2 d2 2dh/r2 d1 linear",
                           "dictionary", "model", "online", "oracle"}) {
    EXPECT_EQ(to_string(parse_policy(text)), text);
  }
  EXPECT_EQ(parse_policy("static:r2").plans, pair_of("r2 d1 linear", "r2 d1 linear"));
  EXPECT_EQ(parse_policy("static:r1 d4/r1 2dh").plans, pair_of("r1 d4 linear", "r1 d1 2dh"));
}

TEST(PolicySpec, SaysWhatIsWrong) {
  EXPECT_EQ(
      error_of([] { (void)parse_policy("onlin"); }),
      "\"onlin\" is no policy; use static:PLAN, dictionary, model, online, oracle (did you mean online?)");
  EXPECT_THAT(error_of([] { (void)parse_policy("static"); }),
              HasSubstr("needs a plan, as in 'static:r1 d2 2dh'"));
  EXPECT_THAT(error_of([] { (void)parse_policy("static:fast"); }), HasSubstr("'fast' is unknown"));
  EXPECT_THAT(error_of([] { (void)parse_policy("static:r1/r2"); }),
              HasSubstr("must use the forward plan's r1"));
}

TEST(MakePolicy, SaysWhatIsMissing) {
  const PolicyContext context{.cluster = shared_expert(4).cluster};
  EXPECT_EQ(error_of([&] { (void)make_policy({.kind = PolicyKind::kModel}, context); }),
            "the model policy needs a cost model");
  EXPECT_EQ(error_of([&] { (void)make_policy({.kind = PolicyKind::kOnline}, context); }),
            "the online policy needs a cost model");
  EXPECT_THAT(error_of([&] { (void)make_policy({.kind = PolicyKind::kOracle}, context); }),
              HasSubstr("needs the truth"));
}

// At C 4 a part of r1 has one slot for each of 4 ranks that share the expert: d2 cannot run.
TEST(StaticPolicy, FallsToTheDefaultWhereItCannotRun) {
  const SearchProblem problem = shared_expert(4);
  const auto policy = make_policy(parse_policy("static:r1 d2"), {.cluster = problem.cluster});
  EXPECT_EQ(policy->choose(0, load_at(problem, 64)), pair_of("r1 d2", "r1 d2"));
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(policy->choose(0, load_at(problem, 4)), kDefaultPlans);
  EXPECT_EQ(policy->choose(0, load_at(problem, 4)), kDefaultPlans);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(said,
              HasSubstr("plan 'r1 d2 linear' cannot run at capacity 4: 2 pipeline parts are more than"));
  EXPECT_EQ(said.find("cannot run"), said.rfind("cannot run")) << "said once";
}

TEST(StaticPolicy, IsSilentOnRanksThatDoNotSpeak) {
  const SearchProblem problem = shared_expert(4);
  const auto policy =
      make_policy(parse_policy("static:r1 d2"), {.cluster = problem.cluster, .speaks = false});
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(policy->choose(0, load_at(problem, 4)), kDefaultPlans);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(StaticPolicy, ObeysMayRun) {
  const SearchProblem problem = shared_expert(4);
  const auto policy = make_policy(
      parse_policy("static:r0"),
      {.cluster = problem.cluster,
       .may_run = [](const LayerLoad& load, const Plan&) { return load.workload.capacity < 100; }});
  EXPECT_EQ(policy->choose(0, load_at(problem, 64)), pair_of("r0", "r0"));
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(policy->choose(0, load_at(problem, 128)), kDefaultPlans);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("it is kept from running, as by a memory limit"));
}

TEST(OraclePolicy, TakesTheTruthsBestPairAtEachLoad) {
  const SearchProblem problem = shared_expert(4);
  // r2: its forward pass is best with d2, its backward pass with d1; r1 is better below C 50.
  const auto truth = [](const LayerLoad& load, const Plan& plan, Pass pass) {
    const double r = plan.parallel_degree == (load.workload.capacity < 50 ? 1 : 2) ? 10 : 20;
    return r + (plan.pipeline_degree == (pass == Pass::kForward ? 2 : 1) ? 0 : 1) +
           (plan.all_to_all == AllToAllAlgorithm::kLinear ? 0 : 1);
  };
  const auto policy =
      make_policy({.kind = PolicyKind::kOracle}, {.cluster = problem.cluster, .truth_us = truth});
  EXPECT_EQ(policy->choose(0, load_at(problem, 64)), pair_of("r2 d2", "r2 d1"));
  EXPECT_EQ(policy->choose(0, load_at(problem, 48)), pair_of("r1 d2", "r1 d1"));
}

TEST(ModelPolicy, TakesTheModelsBestPair) {
  for (const SearchProblem& problem : {on_ndv4(2, 8), on_ndv4(16, 8), on_ndv4(4, 64)}) {
    const CostModel costs = cost_model_of(problem.cluster);
    testing::SimulatedMachine machine(problem.cluster, 0, 1);
    const LayerLoad load = load_at(problem, problem.workload.capacity);
    const Landscape landscape(
        problem, [&](const Plan& plan, Pass pass) { return machine.truth_us(costs, load, plan, pass); });
    const auto policy =
        make_policy({.kind = PolicyKind::kModel}, {.cluster = problem.cluster, .costs = &costs});
    const PlanPair chosen = policy->choose(0, load);
    EXPECT_EQ(chosen, static_cast<PlanPair>(landscape.best()));
    EXPECT_EQ(policy->choose(0, load), chosen);
  }
}

TEST(ModelPolicy, AnswersAnewWhereItsPlanCannotRun) {
  const SearchProblem problem = on_ndv4(2, 8);
  const CostModel costs = cost_model_of(problem.cluster);
  bool is_tight = false;
  Plan favourite;
  const auto policy = make_policy(
      {.kind = PolicyKind::kModel},
      {.cluster = problem.cluster, .costs = &costs, .may_run = [&](const LayerLoad&, const Plan& plan) {
         return !is_tight || plan != favourite;
       }});
  favourite = policy->choose(0, load_at(problem, 1000)).forward;
  is_tight = true;
  EXPECT_NE(policy->choose(0, load_at(problem, 1000)).forward, favourite);
}

/// A landscape with one minimum over r, at `best`.
double hand_us(const Plan& plan, Pass pass, double best) {
  const double r = plan.parallel_degree == 0 ? 9 : std::abs(std::log2(plan.parallel_degree) - best);
  const double d = pass == Pass::kForward ? 1.0 / plan.pipeline_degree : 0.1 * plan.pipeline_degree;
  return 100 + 10 * r + d + (plan.all_to_all == AllToAllAlgorithm::kLinear ? 0.05 : 0);
}

PassDurations durations_of(const PlanPair& plans, double best) {
  return {.forward_ns = std::llround(1e3 * hand_us(plans.forward, Pass::kForward, best)),
          .backward_ns = std::llround(1e3 * hand_us(plans.backward, Pass::kBackward, best))};
}

// Without noise the policy ends where the search that it is made of does, after as many iterations as that
// evaluates plans.
TEST(DictionaryPolicy, EndsWithWhatTheSearchFinds) {
  for (const int shards : {1, 4, 16, 64}) {
    for (const double best : {0.0, 1.0, 3.0}) {
      const SearchProblem problem = shared_expert(shards);
      testing::HandEvaluator evaluator(
          [&](const Plan& plan, Pass pass) { return hand_us(plan, pass, best); });
      const SearchResult expected = DictionarySearch().search(problem, evaluator, {}, 0);
      const auto policy = make_policy({.kind = PolicyKind::kDictionary}, {.cluster = problem.cluster});
      const LayerLoad load = load_at(problem, problem.workload.capacity);
      std::set<Plan> tried;
      const std::int64_t num_iterations = expected.num_evaluations() / 2;
      for (std::int64_t i = 0; i < num_iterations; ++i) {
        const PlanPair plans = policy->choose(0, load);
        EXPECT_EQ(plans.forward, plans.backward);
        EXPECT_TRUE(tried.insert(plans.forward).second) << to_string(plans.forward) << " was tried before";
        policy->observe(0, load, plans, durations_of(plans, best));
      }
      EXPECT_EQ(policy->choose(0, load), static_cast<PlanPair>(expected.best));
      EXPECT_LE(static_cast<double>(num_iterations), (std::log(shards) / std::log(1.5) + 2) * 8);
    }
  }
}

TEST(DictionaryPolicy, KeepsASearchForEachLayerAndBucket) {
  const SearchProblem problem = shared_expert(4);
  const auto policy = make_policy({.kind = PolicyKind::kDictionary}, {.cluster = problem.cluster});
  const LayerLoad load = load_at(problem, 100);
  EXPECT_EQ(policy->choose(0, load), kDefaultPlans);
  policy->observe(0, load, kDefaultPlans, durations_of(kDefaultPlans, 0));
  const PlanPair second = policy->choose(0, load);
  EXPECT_NE(second, kDefaultPlans);
  EXPECT_EQ(policy->choose(0, load_at(problem, 127)), second) << "the same bucket";
  EXPECT_EQ(policy->choose(0, load_at(problem, 128)), kDefaultPlans) << "the next one";
  EXPECT_EQ(policy->choose(1, load), kDefaultPlans) << "another layer";
}

TEST(DictionaryPolicy, TriesOnlyWhatMayRun) {
  const SearchProblem problem = shared_expert(16);
  const auto policy =
      make_policy({.kind = PolicyKind::kDictionary},
                  {.cluster = problem.cluster, .may_run = [](const LayerLoad&, const Plan& plan) {
                     return plan.parallel_degree != 0 && plan.pipeline_degree < 4;
                   }});
  const LayerLoad load = load_at(problem, problem.workload.capacity);
  for (int i = 0; i < 100; ++i) {
    const PlanPair plans = policy->choose(0, load);
    EXPECT_NE(plans.forward.parallel_degree, 0);
    EXPECT_LT(plans.forward.pipeline_degree, 4);
    policy->observe(0, load, plans, durations_of(plans, 2));
  }
  EXPECT_EQ(policy->choose(0, load).forward.parallel_degree, 4);
}

// A load of the bucket at which the plan that the search wants cannot run waits for one at which it can.
TEST(DictionaryPolicy, RunsTheDefaultWhereTheNextPlanIsIllegal) {
  const SearchProblem problem = shared_expert(4);
  const auto policy = make_policy({.kind = PolicyKind::kDictionary}, {.cluster = problem.cluster});
  const LayerLoad large = load_at(problem, 127);
  bool has_met = false;
  for (int i = 0; i < 40; ++i) {
    const PlanPair plans = policy->choose(0, large);
    const LayerLoad small = load_at(problem, 1);
    const PlanPair at_small = policy->choose(0, small);
    EXPECT_TRUE(is_legal(at_small.forward, small.workload, problem.cluster));
    has_met = has_met || at_small != plans;
    policy->observe(0, large, plans, durations_of(plans, 1));
  }
  EXPECT_TRUE(has_met);
}

TEST(Policies, HashesFollowWhatTheyLearned) {
  const SearchProblem problem = on_ndv4(2, 8);
  const CostModel costs = cost_model_of(problem.cluster);
  const LayerLoad load = load_at(problem, 1000);
  for (const char* name : {"dictionary", "online"}) {
    const PolicyContext context{.cluster = problem.cluster, .costs = &costs};
    const auto one = make_policy(parse_policy(name), context);
    const auto two = make_policy(parse_policy(name), context);
    const auto other = make_policy(parse_policy(name), context);
    for (int i = 0; i < 3; ++i) {
      const PlanPair plans = one->choose(0, load);
      EXPECT_EQ(two->choose(0, load), plans);
      EXPECT_EQ(other->choose(0, load), plans);
      EXPECT_EQ(one->state_hash(), two->state_hash());
      one->observe(0, load, plans, {1'000'000, 2'000'000});
      two->observe(0, load, plans, {1'000'000, 2'000'000});
      other->observe(0, load, plans, {1'000'000, 2'000'001});
      EXPECT_EQ(one->state_hash(), two->state_hash());
      EXPECT_NE(one->state_hash(), other->state_hash()) << name;
    }
  }
  EXPECT_NE(make_policy(parse_policy("static:r1"), {})->state_hash(),
            make_policy(parse_policy("static:r0"), {})->state_hash());
}

}  // namespace
}  // namespace flex
