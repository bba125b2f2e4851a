#include "traces/report/chart.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "tests/traces/report/sample_replay.h"
#include "traces/report/replay_charts.h"
#include "traces/report/report_document.h"

namespace flex {
namespace {

using ::testing::ElementsAre;

ReplayDocument parsed(const nlohmann::json& document) {
  nlohmann::json value = document;
  return std::get<ReplayDocument>(parse_report_document(std::move(value), "sample.json").content);
}

TEST(Palette, ANameKeepsItsColour) {
  Palette palette;
  palette.add("static:r1 d1 linear");
  palette.add("online");
  palette.add("r1 d1 linear");  // the plan of the first policy
  palette.add("static:r1 d2 2dh/r1 d1 linear");
  EXPECT_EQ(palette.colour("static:r1 d1 linear"), "var(--c0)");
  EXPECT_EQ(palette.colour("r1 d1 linear"), "var(--c0)");
  EXPECT_EQ(palette.colour("online"), "var(--c1)");
  EXPECT_EQ(palette.colour("r1 d2 2dh / r1 d1 linear"), "var(--c2)");
  EXPECT_EQ(palette.colour("unknown"), "var(--other)");
}

TEST(Palette, APlanThatAPolicyTurnedOutToBeHasItsColour) {
  Palette palette;
  palette.add("online");
  palette.add_alias("static:r2 d4 2dh", "best-static");
  EXPECT_EQ(palette.colour("best-static"), "var(--c1)");
  EXPECT_EQ(palette.colour("r2 d4 2dh"), "var(--c1)");
}

TEST(Palette, BeyondItsColoursNamesShareAGrey) {
  Palette palette;
  std::set<std::string> colours;
  for (int i = 0; i < 12; ++i) {
    palette.add(std::to_string(i));
    colours.insert(palette.colour(std::to_string(i)));
  }
  EXPECT_EQ(colours.size(), Palette::kNumColours + 1);
  EXPECT_EQ(palette.colour("10"), "var(--other)");
}

TEST(Chart, PicksRowsEvenlyWithTheLast) {
  EXPECT_THAT(picked_rows(3, 5), ElementsAre(0, 1, 2));
  EXPECT_THAT(picked_rows(9, 3), ElementsAre(0, 4, 8));
  EXPECT_THAT(picked_rows(0, 3), ElementsAre());
  EXPECT_EQ(picked_text(9, 9), "");
  EXPECT_EQ(picked_text(10, 9), "9 of 10 rows, evenly picked; the document has all");
}

TEST(Chart, TextsOfShares) {
  EXPECT_EQ(percent_text(0.1234), "12.3%");
  EXPECT_EQ(percent_text(0.0005), "0.05%");
  EXPECT_EQ(percent_text(2e-16), "0.0%");
  EXPECT_EQ(percent_text(-0.05, true), "-5.0%");
  EXPECT_EQ(percent_text(std::nullopt), "–");
  EXPECT_EQ(factor_text(1.0836), "1.084×");
}

// Layer 0 runs a, a, b; layer 1 has no record in the middle: two runs of a.
TEST(PlansChart, JoinsPointsOfOnePlan) {
  auto document = sample_replay({.steps = 3, .layers = 2});
  auto& policy = document["scenarios"][0]["policies"][0];
  document["scenarios"][0]["policies"] = nlohmann::json::array({policy});
  auto& only = document["scenarios"][0]["policies"][0];
  only["plans"] = {{{"plans", "a"}}, {{"plans", "b"}}};
  only["series"]["plan"] = {{0, 0, 1}, {0, nullptr, 0}};
  const auto replay = parsed(document);
  const auto chart = plans_chart(replay.scenarios[0], Palette());
  ASSERT_TRUE(chart);
  std::vector<std::string> rows;
  for (const auto& row : chart->table.rows) {
    rows.push_back(row[1].text + ": " + row[2].text + "-" + row[3].text + " " + row[4].text);
  }
  EXPECT_THAT(rows, ElementsAre("0: 0-1 a", "0: 2-2 b", "1: 0-0 a", "1: 2-2 a"));
  EXPECT_EQ(chart->choice->options.size(), 2U);
}

// Points of 10 steps, of which the last has 5: 10 * 2 + 10 * 3 + 5 * 4 = 70 us.
TEST(RegretChart, SumsOverTheStepsOfEachPoint) {
  auto document = sample_replay({.steps = 3, .layers = 1});
  auto& scenario = document["scenarios"][0];
  document["trace"]["steps"] = 25;
  scenario["steps"] = {{"first", {0, 10, 20}}, {"steps_per_point", 10}};
  scenario["policies"][0]["series"]["regret_us"] = {2.0, 3.0, 4.0};
  const auto replay = parsed(document);
  const auto chart = regret_chart(replay.scenarios[0], Palette(), replay.steps);
  ASSERT_TRUE(chart);
  const auto& points = chart->spec["data"][0]["values"];
  EXPECT_EQ(points[0]["sum"], 20.0);
  EXPECT_EQ(points[1]["sum"], 50.0);
  EXPECT_EQ(points[2]["sum"], 70.0);
  for (const LegendEntry& entry : chart->legend) EXPECT_NE(entry.label, "oracle");
}

// 5 experts in cells of 2: the last cell has one. Shares 0.4, 0.4, 0.2 are an even load.
TEST(LoadChart, IsOverTheMeanExpertOfACell) {
  auto document = sample_replay({.steps = 2, .layers = 1});
  document["trace"]["layers"][0]["experts"] = 5;
  document["scenarios"][0]["expert_load"] = {{"layers", {0}},
                                             {"first_step", {0}},
                                             {"steps_per_bin", 2},
                                             {"experts_per_cell", 2},
                                             {"share", {{{0.4, 0.4, 0.2}}}}};
  const auto replay = parsed(document);
  const auto chart = load_chart(replay.scenarios[0], replay.experts);
  ASSERT_TRUE(chart);
  for (const auto& cell : chart->spec["data"][0]["values"]) EXPECT_DOUBLE_EQ(cell[5].get<double>(), 1.0);
}

TEST(TimelineChart, KnowsTheClassOfEachOperation) {
  const auto replay = parsed(sample_replay({}));
  const auto chart = timeline_chart(replay.scenarios[0]);
  ASSERT_TRUE(chart);
  std::map<std::string, std::string> colours;
  for (const auto& span : chart->spec["data"][0]["values"]) colours[span["label"]] = span["colour"];
  EXPECT_EQ(colours.at("dispatch/all_to_all"), "var(--class-exchange)");
  EXPECT_EQ(colours.at("expert_ffn"), "var(--class-experts)");
  EXPECT_EQ(colours.at("agree_capacity"), "var(--class-host)");
  EXPECT_EQ(chart->spec["scales"][1]["domain"], (nlohmann::ordered_json{"host", "compute", "communication"}));
}

TEST(ReplayCharts, ADocumentWithoutTheirDataHasNone) {
  auto document = sample_replay({.steps = 2});
  auto& scenario = document["scenarios"][0];
  for (const char* key : {"timeline", "expert_load", "steps", "needed_capacity", "capacity"})
    scenario.erase(key);
  for (auto& policy : scenario["policies"]) {
    policy.erase("series");
    policy.erase("class_us");
  }
  const auto replay = parsed(document);
  const ReportScenario& one = replay.scenarios[0];
  EXPECT_FALSE(plans_chart(one, Palette()));
  EXPECT_FALSE(regret_chart(one, Palette(), 2));
  EXPECT_FALSE(classes_chart(one, 1));
  EXPECT_FALSE(timeline_chart(one));
  EXPECT_FALSE(load_chart(one, replay.experts));
  EXPECT_FALSE(scaling_chart(replay, Palette()));
}

}  // namespace
}  // namespace flex
