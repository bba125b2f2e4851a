#include "tuner/recorded_sweep.h"

#include <gmock/gmock.h>

#include "base/philox.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/tuner/cases.h"
#include "tuner/exhaustive_search.h"
#include "tuner/recorded_evaluator.h"
#include "tuner/simulated_evaluator.h"

namespace flex {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kLine =
    R"({"workload":{"world":4,"num_experts":8,"num_tokens":256,"capacity":64,"top_k":2,"model_dim":128,)"
    R"("hidden_dim":256,"dtype":"fp32"},"plan":"r1 d2 linear","pass":"backward","samples_ns":[812000,799500]})";

RecordedPass pass_of_line() {
  return {.workload = {.world = 4,
                       .num_experts = 8,
                       .num_tokens = 256,
                       .capacity = 64,
                       .top_k = 2,
                       .model_dim = 128,
                       .hidden_dim = 256,
                       .pass = Pass::kBackward},
          .plan = parse_plan("r1 d2 linear"),
          .samples_ns = {812000, 799500}};
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  return text.replace(text.find(what), what.size(), by);
}

TEST(RecordedSweep, LineIsAsDocumented) {
  EXPECT_EQ(to_json_line(pass_of_line()), kLine);
  EXPECT_THAT(parse_sweep(std::string("\n") + kLine + "\n \n", "sweep.jsonl"),
              ::testing::ElementsAre(pass_of_line()));
}

TEST(RecordedSweep, EveryFieldOfAWorkloadIsKept) {
  std::vector<RecordedPass> passes(17, pass_of_line());
  passes[0].workload.ffn = FfnKind::kGated;
  passes[1].workload.gate = GateKind::kCosine;
  passes[2].workload.projection_dim = 7;
  passes[3].workload.fc1_bias = false;
  passes[4].workload.fc2_bias = false;
  passes[5].workload.train_fc2_bias = false;
  passes[6].workload.is_postscore = false;
  passes[7].workload.gate_noise = true;
  passes[8].workload.gate_loss = false;
  passes[9].workload.global_loss_scope = false;
  passes[10].workload.dropless = true;
  passes[11].workload.agree_on_tokens = false;
  passes[12].workload.regather_weights = true;
  passes[13].workload.dtype = DType::kBF16;
  passes[14].workload.pass = Pass::kForward;
  passes[15].samples_ns.clear();
  passes[15].why_not = "out of memory on rank 3: \"7 GiB\"";
  passes[16].plan = parse_plan("r2 d8 2dh counted");
  passes[16].workload.num_experts = 2;
  const TemporaryDirectory directory;
  write_sweep(directory / "sweep.jsonl", passes);
  EXPECT_EQ(read_sweep(directory / "sweep.jsonl"), passes);
}

TEST(RecordedSweep, ErrorsNameLineAndKey) {
  const auto error = [](const std::string& what, const std::string& by) {
    return message_of<InputError>(
        [&] { (void)parse_sweep(std::string(kLine) + "\n" + replaced(kLine, what, by), "s.jsonl"); });
  };
  EXPECT_EQ(error(R"("r1 d2 linear")", R"("d0")"),
            "s.jsonl:2: plan: plan 'd0': 'd0' is unknown; a plan looks like 'r2 d4 2dh' (r 0 or more, d 1 or "
            "more, linear or 2dh)");
  EXPECT_EQ(error("[812000,799500]", "[]"),
            "s.jsonl:2: samples_ns: a pass has either samples or a reason in `why_not`");
  EXPECT_EQ(error("[812000,799500]", "[3,0]"), "s.jsonl:2: samples_ns[1]: is 0; it must be at least 1");
  EXPECT_EQ(error(R"("world":4)", R"("world":3)"),
            "s.jsonl:2: workload: 8 experts do not spread over 3 ranks: one must divide the other");
  EXPECT_EQ(error(R"("backward")", R"("both")").substr(0, 16), "s.jsonl:2: pass:");
  EXPECT_EQ(error(R"("top_k":2,)", ""), "s.jsonl:2: workload.top_k: is missing");
  EXPECT_EQ(error(R"("top_k":2,)", R"("top_k":2,"topk":2,)").substr(0, 25), "s.jsonl:2: workload.topk:");
}

TEST(RecordedEvaluator, ReplaysWhatASearchEvaluated) {
  const SearchProblem problem = testing::on_ndv4(2, 8);
  const CostModel costs = cost_model_of(problem.cluster);
  SimulatedEvaluator simulated(problem.workload, problem.cluster, costs,
                               {.relative_spread = 0.05, .seed = 9});
  const SearchResult first = ExhaustiveSearch().search(problem, simulated, {}, 0);

  const TemporaryDirectory directory;
  write_sweep(directory / "sweep.jsonl", recorded(problem.workload, first.evaluations));
  RecordedEvaluator replay(read_sweep(directory / "sweep.jsonl"), problem.workload);
  const SearchResult second = ExhaustiveSearch().search(problem, replay, {}, 0);

  ASSERT_THAT(second.evaluations, SizeIs(first.evaluations.size()));
  for (std::size_t i = 0; i < first.evaluations.size(); ++i) {
    EXPECT_NEAR(second.evaluations[i].evaluation.duration_us, first.evaluations[i].evaluation.duration_us,
                1e-3)
        << "nanoseconds are kept";
    EXPECT_EQ(second.evaluations[i].evaluation.source, EvaluationSource::kRecorded);
  }
  EXPECT_NEAR(replay.elapsed_s(), simulated.elapsed_s(), 1e-6);
  EXPECT_LE(second.best.total_us, second.default_us);
}

TEST(RecordedEvaluator, PutsSamplesTogetherAndKnowsItsWorkload) {
  std::vector<RecordedPass> sweep(4, pass_of_line());
  sweep[1].samples_ns = {805000};
  sweep[2].workload.capacity = 32;
  sweep[3].plan = parse_plan("r0");
  sweep[3].samples_ns.clear();
  sweep[3].why_not = "out of memory";
  Workload workload = pass_of_line().workload;
  workload.pass = Pass::kForward;  // does not matter
  RecordedEvaluator evaluator(sweep, workload);
  EXPECT_EQ(evaluator.evaluate(parse_plan("d2"), Pass::kBackward),
            evaluation_of(std::vector<std::int64_t>{812000, 799500, 805000}, EvaluationSource::kRecorded));
  EXPECT_DOUBLE_EQ(evaluator.elapsed_s(), (812000 + 799500 + 805000) * 1e-9);
  EXPECT_EQ(evaluator.evaluate(parse_plan("r0"), Pass::kBackward).why_not, "out of memory");
  const Evaluation unknown = evaluator.evaluate(parse_plan("d2"), Pass::kForward);
  EXPECT_EQ(unknown.why_not, "the sweep has no forward pass with r1 d2 linear");
  EXPECT_THAT(unknown.samples_ns, IsEmpty());
  EXPECT_EQ(evaluator.num_evaluations(), 3);
  workload.capacity = 65;
  EXPECT_EQ(message_of<InputError>([&] { (void)RecordedEvaluator(sweep, workload); }),
            "the sweep of 4 recorded pass(es) has none of this workload: 4 ranks, 8 experts, 256 tokens, "
            "capacity 65, 128 x 256, fp32");
}

}  // namespace
}  // namespace flex
