#include <cstdio>

#include "costmodel/plan.h"

int main() {
  const flex::Plan plan = flex::parse_plan("r2 d4 2dh");
  std::printf("%s\n", flex::to_string(plan).c_str());
  return plan.parallel_degree == 2 && plan.pipeline_degree == 4 ? 0 : 1;
}
