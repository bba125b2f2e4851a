#include "traces/report/report_document.h"

#include <gmock/gmock.h>

#include <fstream>
#include <functional>

#include "tests/base/temporary_directory.h"
#include "tests/traces/report/other_documents.h"
#include "tests/traces/report/sample_replay.h"

namespace flex {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

TEST(ReportDocument, IsToldApartByItsFields) {
  EXPECT_TRUE(std::holds_alternative<ReplayDocument>(parse_report_document(sample_replay({}), "a").content));
  EXPECT_TRUE(std::holds_alternative<TuneDocument>(parse_report_document(sample_tune(), "a").content));
  EXPECT_TRUE(
      std::holds_alternative<SimulateDocument>(parse_report_document(sample_simulate(), "a").content));
}

TEST(ReportDocument, KeepsWhatItRead) {
  const json document = sample_replay({.steps = 12});
  const auto replay = std::get<ReplayDocument>(parse_report_document(document, "a").content);
  const json& policy = document["scenarios"][0]["policies"][3];
  const ReportPolicy& online = replay.scenarios[0].policies[3];
  EXPECT_EQ(online.name, "online");
  EXPECT_EQ(online.total_us, policy["total_us"]);
  EXPECT_EQ(*online.regret_share, policy["regret_share"]);
  EXPECT_EQ(*online.fits, true);
  EXPECT_EQ(replay.scenarios[0].first_step.size(), 12U);
  EXPECT_EQ(replay.scenarios[0].needed_capacity[1][5], std::nullopt);
  EXPECT_EQ(replay.scenarios[0].timeline->spans.size(), document["scenarios"][0]["timeline"]["spans"].size());
  EXPECT_EQ(replay.scenarios[0].main_policy(), 3U);
}

TEST(ReportDocument, WhatIsNullIsNotThere) {
  json document = sample_replay({.steps = 4});
  auto& scenario = document["scenarios"][0];
  for (const char* key : {"speedup_over_best_static", "regret_us", "regret_share"})
    scenario["policies"][3][key] = nullptr;
  scenario["policies"][3]["series"]["regret_us"] = nullptr;
  scenario["policies"][3]["memory"]["fits"] = nullptr;
  scenario["timeline"] = nullptr;
  const auto replay = std::get<ReplayDocument>(parse_report_document(document, "a").content);
  const ReportPolicy& online = replay.scenarios[0].policies[3];
  EXPECT_FALSE(online.regret_us || online.speedup_over_best_static || online.fits);
  EXPECT_TRUE(online.step_regret_us.empty());
  EXPECT_FALSE(replay.scenarios[0].timeline);
}

struct Wrong {
  std::function<void(json&)> change;
  std::string message;
};

class WrongDocument : public ::testing::TestWithParam<Wrong> {};

TEST_P(WrongDocument, IsRefusedWithItsPlace) {
  json document = sample_replay({.steps = 3});
  GetParam().change(document);
  try {
    (void)parse_report_document(document, "run.json");
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, WrongDocument,
    ::testing::Values(
        Wrong{
            [](json& d) { d["version"] = 2; },
            "run.json: version: is 2; this program reads up to 1: use the one that wrote it, or a newer one"},
        Wrong{[](json& d) { d["flexmoe"] = "diary"; },
              "run.json: flexmoe: is \"diary\"; a report is made of"},
        Wrong{[](json& d) { d.erase("flexmoe"); }, "run.json: an unknown document; a report is made of"},
        Wrong{[](json& d) { d = json::array(); }, "run.json"},
        Wrong{[](json& d) { d["scenarios"] = json::array(); }, "run.json: scenarios: is empty"},
        Wrong{[](json& d) { d["scenarios"][0]["policies"] = json::array(); },
              "run.json: scenarios[0].policies: is empty"},
        Wrong{[](json& d) { d["scenarios"][0]["policies"][1]["total_us"] = "fast"; },
              "run.json: scenarios[0].policies[1].total_us"},
        Wrong{[](json& d) { d["scenarios"][0]["policies"][1]["total_us"] = -1; },
              "run.json: scenarios[0].policies[1].total_us"},
        Wrong{[](json& d) { d["scenarios"][0]["needed_capacity"][0] = 5; },
              "run.json: scenarios[0].needed_capacity: must be a list"},
        Wrong{[](json& d) { d["scenarios"][0]["needed_capacity"][0][1] = "x"; },
              "run.json: scenarios[0].needed_capacity: must hold numbers and nulls"},
        Wrong{[](json& d) { d["scenarios"][0]["expert_load"]["share"] = json::array(); },
              "run.json: scenarios[0].expert_load.share: must have as many entries as layers"},
        Wrong{[](json& d) { d["scenarios"][0]["steps"]["steps_per_point"] = 0; },
              "run.json: scenarios[0].steps.steps_per_point"}));

TEST(ReportDocument, AFileThatIsNoJsonIsNamedWithItsLine) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "broken.json") << "{\n  \"flexmoe\": replay\n}";
  try {
    (void)read_report_document(directory / "broken.json");
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("broken.json:2:"));
  }
}

}  // namespace
}  // namespace flex
