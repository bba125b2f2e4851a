#include <nlohmann/json.hpp>

#include "base/error.h"
#include "costmodel/cluster_description.h"
#include "tests/fuzz/fuzz.h"

/// A cluster's description. One that is taken is a description again.
void fuzz_one(std::string_view input) {
  flex::ClusterDescription one;
  try {
    one = flex::parse_cluster(input, "cluster.json");
  } catch (const flex::InputError&) {
    return;
  }
  const std::string text = flex::to_json(one).dump();
  flex::testing::require_promise(flex::to_json(flex::parse_cluster(text, "again")).dump() == text,
                                 "a description that was read can be written and read");
}
