// A search strategy of your own: from the default plan it deepens the pipeline for as long as that pays, for
// each All-to-All algorithm, and is compared with the exhaustive search on a simulated cluster.
#include <fmt/format.h>

#include <limits>

#include "costmodel/cluster_description.h"
#include "costmodel/plan_space.h"
#include "tuner/search.h"
#include "tuner/search_session.h"
#include "tuner/simulated_evaluator.h"

namespace {

class DeepenPipeline final : public flex::SearchStrategy {
 public:
  flex::SearchResult search(const flex::SearchProblem& problem, flex::Evaluator& evaluator,
                            const flex::SearchBudget& budget, std::uint64_t /*seed*/) const override {
    flex::SearchSession session(problem, evaluator,
                                budget);  // evaluates nothing twice, and keeps to the budget
    for (const flex::Pass pass : flex::passes_of(problem.passes)) {
      for (const auto algorithm :
           {flex::AllToAllAlgorithm::kLinear, flex::AllToAllAlgorithm::kHierarchical2d}) {
        deepen(session, {.all_to_all = algorithm}, pass);
      }
    }
    return session.finish();
  }

 private:
  static void deepen(flex::SearchSession& session, flex::Plan plan, flex::Pass pass) {
    double before_us = std::numeric_limits<double>::infinity();
    for (const std::int32_t degree : flex::kPipelineDegrees) {
      plan.pipeline_degree = degree;
      if (!flex::is_legal(plan, session.problem().workload, session.problem().cluster)) return;
      const std::optional<double> us = session.evaluate(plan, pass);
      if (!us || *us >= before_us) return;
      before_us = *us;
    }
  }
};

void print(std::string_view name, const flex::SearchResult& result) {
  fmt::print("{:16} {:3} of {} evaluations: {} / {}, {:.0f} us (default {:.0f} us)\n", name,
             result.num_evaluations(), result.num_candidates, to_string(result.best.forward),
             to_string(result.best.backward), result.best.total_us, result.default_us);
}

}  // namespace

int main() {
  const flex::Cluster cluster = flex::load_cluster("azure_ndv4_a100", 4);
  const flex::CostModel costs = flex::cost_model_of(cluster);
  const flex::Workload workload{.world = cluster.world(),
                                .num_experts = 64,
                                .num_tokens = 4096,
                                .capacity = 128,
                                .top_k = 2,
                                .model_dim = 2048,
                                .hidden_dim = 2048,
                                .dtype = flex::DType::kF16};
  const flex::SearchProblem problem = flex::search_problem(workload, cluster);
  flex::SimulatedEvaluator ours(workload, cluster, costs);
  flex::SimulatedEvaluator oracle(workload, cluster, costs);
  const auto exhaustive = flex::make_strategy(flex::StrategyKind::kExhaustive, costs);
  print("deepen pipeline", DeepenPipeline().search(problem, ours, {}, 1));
  print("exhaustive", exhaustive->search(problem, oracle, {}, 1));
}
