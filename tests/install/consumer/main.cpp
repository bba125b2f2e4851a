#include <cstdio>

#include "costmodel/cluster_description.h"
#include "costmodel/plan.h"

int main() {
  const flex::Plan plan = flex::parse_plan("r2 d4 2dh");
  std::printf("%s\n", flex::to_string(plan).c_str());
  // Described clusters come with the library, wherever it was installed.
  const flex::Cluster cluster = flex::load_cluster("azure_ndv4_a100", 4);
  return plan.parallel_degree == 2 && plan.pipeline_degree == 4 && cluster.world() == 32 ? 0 : 1;
}
