#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/philox.h"
#include "costmodel/plan_space.h"
#include "tests/base/expect_error.h"
#include "tests/costmodel/cases.h"
#include "tests/tuner/cache_cases.h"
#include "tuner/interchange.h"
#include "tuner/sqlite.h"

namespace flex {
namespace {

using nlohmann::json;
using testing::key_at;
using testing::trial_of;
using testing::two_trials;

std::vector<KeyedTrial> some_trials() {
  std::vector<KeyedTrial> trials;
  for (const Trial& trial : two_trials()) trials.push_back({key_at(3, 1), trial});
  Trial failed = trial_of("r0 counted", {}, 123'456'789);
  failed.outcome = TrialOutcome::kTimeout;
  trials.push_back({key_at(4), failed});
  trials.back().key.one = {4, 0, Pass::kBackward, 0};
  return trials;
}

TEST(T4, HoldsWhatTheFormatAsksFor) {
  const json document = to_t4(some_trials());
  EXPECT_EQ(document["schema_version"], "1.0.0");
  ASSERT_EQ(document["results"].size(), 3);
  const json& result = document["results"][1];
  EXPECT_EQ(result["timestamp"], "2023-11-14T22:13:20.000000000Z");
  EXPECT_EQ(
      result["configuration"],
      json::parse(
          R"({"parallel_degree": 2, "pipeline_degree": 4, "all_to_all": "2dh", "expert_kernel": "padded"})"));
  EXPECT_EQ(result["objectives"], json::parse(R"(["time"])"));
  EXPECT_EQ(result["times"], json::parse(R"({"runtimes": [0.0002, 0.000199, 0.000205]})"));
  EXPECT_EQ(result["invalidity"], "correct");
  EXPECT_EQ(result["correctness"], 1);
  EXPECT_EQ(result["measurements"], json::parse(R"([{"name": "time", "value": 0.0002, "unit": "ms"},
                                                    {"name": "spread", "value": 0.000001, "unit": "ms"}])"));
  const json& failed = document["results"][2];
  EXPECT_EQ(failed["invalidity"], "timeout");
  EXPECT_EQ(failed["correctness"], 0);
  EXPECT_EQ(failed["times"]["runtimes"], json::array());
  EXPECT_EQ(failed["measurements"], json::array());
}

// The same trials, known by the same ids: an import of one's own export adds nothing.
TEST(T4, RoundTripsButForTheSource) {
  std::vector<KeyedTrial> trials = some_trials();
  trials[1].trial.source = TrialSource::kSimulated;
  const json document = json::parse(to_t4(trials).dump());
  std::vector<KeyedTrial> expected = trials;
  expected[0].trial.source = expected[2].trial.source = TrialSource::kImported;
  EXPECT_EQ(parse_t4(document, "x.json"), expected);
  for (std::size_t i = 0; i < trials.size(); ++i) {
    EXPECT_EQ(trial_id(trials[i].key, trials[i].trial), trial_id(expected[i].key, expected[i].trial));
  }
}

TEST(T4, NanosecondsSurviveTheMilliseconds) {
  PhiloxStream random(2);
  std::vector<std::int64_t> samples;
  for (int i = 0; i < 10'000; ++i) samples.push_back(1 + random.below(std::int64_t{1} << (1 + i % 49)));
  const std::vector<KeyedTrial> trials = {{key_at(1), trial_of("r1", samples)}};
  EXPECT_EQ(parse_t4(json::parse(to_t4(trials).dump()), "x.json")[0].trial.samples_ns, samples);
}

TEST(T4, PassesOverWhatOtherToolsAdd) {
  json document = to_t4(some_trials());
  document["metadata"] = "anything";
  document["results"][0]["energy"] = 5;
  document["results"][0]["measurements"] =
      json::parse(R"([{"name": "power", "value": "much", "unit": "W"}])");
  document["results"][0]["times"]["framework"] = 3;
  document.erase("schema_version");
  EXPECT_EQ(parse_t4(document, "x.json").size(), 3);
}

struct Mistake {
  const char* pointer;  ///< what is replaced, or removed for a null value
  const char* value;
  const char* message;
};

TEST(T4, NamesWhatIsWrong) {
  const Mistake mistakes[] = {
      {"/schema_version", R"("2.0.0")", "x.json: schema_version: is 2.0.0; it must be 1.x.y"},
      {"/results", "{}", "x.json: results: is an object; it must be an array"},
      {"/results/1/configuration", "null", "x.json: results[1].configuration: is missing"},
      {"/results/1/configuration/all_to_all", R"("ring")",
       "x.json: results[1].configuration.all_to_all: is \"ring\"; it must be one of linear, 2dh"},
      {"/results/1/configuration/tile", "3", "x.json: results[1].configuration.tile: unknown key"},
      {"/results/1/times", "null", "x.json: results[1].times: is missing"},
      {"/results/1/times/runtimes/0", "0", "x.json: results[1].times.runtimes[0]: is 0; it must be above 0"},
      {"/results/1/times/runtimes", "[]",
       "x.json: results[1]: trial of r2 d4 2dh: its outcome is correct, but it has 0 sample(s)"},
      {"/results/1/invalidity", R"("bad")",
       "x.json: results[1].invalidity: is \"bad\"; it must be one of correct"},
      {"/results/1/correctness", "null", "x.json: results[1].correctness: is missing"},
      {"/results/1/timestamp", R"("today")",
       "x.json: results[1].timestamp: 'today' is no time like 2026-11-24T09:30:00Z"},
      {"/results/1/flexmoe", "null",
       "x.json: results[1].flexmoe: is missing; only what `flexmoe cache export` wrote says to which case"},
      {"/results/1/flexmoe/layer/dtype", R"("int7")",
       "x.json: results[1].flexmoe.layer.dtype: 'int7' is unknown"},
      {"/results/1/flexmoe/environment/world", "-1",
       "x.json: results[1].flexmoe.environment.world: is -1; it must be at least 0"},
      {"/results/1/flexmoe/case/pass", R"("sideways")",
       "x.json: results[1].flexmoe.case.pass: is \"sideways\""},
      {"/results/1/flexmoe/layer/depth", "3", "x.json: results[1].flexmoe.layer.depth: unknown key"},
      {"/results/1/flexmoe/num_warmup", "-1",
       "x.json: results[1].flexmoe.num_warmup: is -1; it must be at least 0"}};
  for (const Mistake& mistake : mistakes) {
    json document = json::parse(to_t4(some_trials()).dump());
    const json::json_pointer at(mistake.pointer);
    if (std::string_view(mistake.value) == "null") {
      document[at.parent_pointer()].erase(at.back());
    } else {
      document[at] = json::parse(mistake.value);
    }
    EXPECT_THAT(message_of<InputError>([&] { (void)parse_t4(document, "x.json"); }),
                ::testing::StartsWith(mistake.message));
  }
}

TEST(T1, HoldsWhatTheFormatAsksFor) {
  const Workload workload = {
      .world = 8, .num_experts = 2, .num_tokens = 64, .capacity = 5, .model_dim = 8, .hidden_dim = 16};
  const json space = to_t1(workload, {.nodes = 2, .ranks_per_node = 4});
  EXPECT_EQ(space["ConfigurationSpace"]["TuningParameters"], json::parse(R"([
      {"Name": "parallel_degree", "Type": "int", "Values": "[0, 1, 2, 4]"},
      {"Name": "pipeline_degree", "Type": "int", "Values": "[1, 2, 4, 8]"},
      {"Name": "all_to_all", "Type": "string", "Values": "['2dh', 'linear']"},
      {"Name": "expert_kernel", "Type": "string", "Values": "['padded']"}])"));
  EXPECT_EQ(space["ConfigurationSpace"]["Conditions"][1]["Expression"],
            "pipeline_degree == 1 or pipeline_degree * 4 <= parallel_degree * 8");
  for (const char* key : {"Language", "KernelName", "KernelFile", "GlobalSize", "LocalSize"}) {
    EXPECT_TRUE(space["KernelSpecification"].contains(key)) << key;
  }
  EXPECT_EQ(space["KernelSpecification"]["GlobalSize"]["X"], "8");
}

// [1, 2] or ['a', 'b'], as a Python literal.
std::vector<std::string> values_of(const json& parameter) {
  const auto text = parameter["Values"].get<std::string>();
  std::vector<std::string> values;
  std::string value;
  for (const char c : text) {
    if (c == ',' || c == ']') {
      values.push_back(value);
      value.clear();
    } else if (c != '[' && c != ' ') {
      value += c;
    }
  }
  return values;
}

std::string unquoted(std::string text) {
  std::erase(text, '\'');
  return text;
}

// The configurations that fulfil the conditions. Their expressions mean the same in SQL as in Python.
std::set<Plan> plans_of(const json& space, const Database& evaluator) {
  const json& parameters = space["ConfigurationSpace"]["TuningParameters"];
  std::set<Plan> plans;
  for (const std::string& r : values_of(parameters[0])) {
    for (const std::string& d : values_of(parameters[1])) {
      for (const std::string& a : values_of(parameters[2])) {
        for (const std::string& k : values_of(parameters[3])) {
          bool is_legal = true;
          for (const json& condition : space["ConfigurationSpace"]["Conditions"]) {
            is_legal = is_legal && evaluator.integer(fmt::format(
                                       "SELECT {} FROM (SELECT {} AS parallel_degree, {} AS "
                                       "pipeline_degree, {} AS all_to_all, {} AS expert_kernel)",
                                       condition["Expression"].get<std::string>(), r, d, a, k)) != 0;
          }
          if (is_legal)
            plans.insert(parse_plan(fmt::format("r{} d{} {} {}", r, d, unquoted(a), unquoted(k))));
        }
      }
    }
  }
  return plans;
}

TEST(T1, DescribesExactlyTheLegalPlans) {
  const Database evaluator = Database::in_memory();
  int num_spaces = 0;
  std::size_t at = 0;
  for (const testing::Case& one : testing::all_cases()) {
    if (at++ % 7 != 0) continue;  // an evaluation is slow
    const PlanSpace space(one.workload, one.cluster);
    EXPECT_EQ(plans_of(to_t1(one.workload, one.cluster), evaluator),
              std::set<Plan>(space.plans().begin(), space.plans().end()))
        << one;
    ++num_spaces;
  }
  EXPECT_GT(num_spaces, 500);
}

TEST(T1, AGivenDegreeIsTheOnlyOne) {
  const Workload workload = {
      .world = 8, .num_experts = 2, .num_tokens = 64, .capacity = 5, .model_dim = 8, .hidden_dim = 16};
  const json space = to_t1(workload, {.nodes = 2, .ranks_per_node = 4}, 2);
  EXPECT_EQ(space["ConfigurationSpace"]["TuningParameters"][0]["Values"], "[2]");
  EXPECT_EQ(space["ConfigurationSpace"]["TuningParameters"][1]["Values"], "[1, 2, 4]");
}

}  // namespace
}  // namespace flex
