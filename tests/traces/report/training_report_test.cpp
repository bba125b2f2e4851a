#include <gmock/gmock.h>

#include <fstream>

#include "base/error.h"
#include "tests/base/temporary_directory.h"
#include "tests/traces/report/other_documents.h"
#include "tests/traces/report/sample_training.h"
#include "traces/report/curves_chart.h"
#include "traces/report/report_page.h"
#include "traces/report/report_section.h"

/// Learning curves.
namespace flex {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class TrainingReport : public ::testing::Test {
 protected:
  [[nodiscard]] ReportDocument read(const std::string& name, const std::string& content) const {
    std::ofstream(directory_ / name) << content;
    return read_report_document(directory_ / name);
  }
  [[nodiscard]] std::string error_of(const std::string& content) const {
    try {
      static_cast<void>(read("run.jsonl", content));
    } catch (const InputError& error) {
      return std::string(error.what()).substr(directory_.path().string().size() + 1);
    }
    return "(nothing was thrown)";
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (directory_ / name).string(); }

  TemporaryDirectory directory_;
};

ReportSection section_with_colours(const ReportDocument& document) {
  Palette palette;
  add_names(document, palette);
  return section_of(document, palette);
}

std::vector<std::string> texts_of(const std::vector<HtmlCell>& row) {
  std::vector<std::string> texts;
  for (const HtmlCell& cell : row) texts.push_back(cell.text);
  return texts;
}

TEST_F(TrainingReport, SumsARunUp) {
  const ReportSection section = section_with_colours(read("run.jsonl", sample_training(20)));
  EXPECT_EQ(section.headline, "A run of 20 steps.");
  ASSERT_EQ(section.summary.rows.size(), 1U);
  // The last tenth are steps 19 and 20, whose upper median is 2 + 1/19; images/s are 801 to 820.
  EXPECT_THAT(texts_of(section.summary.rows[0]),
              ElementsAre(file("run.jsonl"), "20", "2", "2.0526", "2.5000", "25.0%", "87.5%", "50.0%", "10",
                          "811", "25.0%", "1"));
  EXPECT_THAT(section.highlights, ElementsAre("best top-1 accuracy 50.0% after 10 steps",
                                              "loss from 3.0000 to 2.0526 in 20 steps",
                                              "811 images/s; MoE layers take 25.0% of a step"));
  std::vector<std::string> titles;
  for (const ChartRow& row : section.rows) {
    for (const Chart& chart : row.charts) titles.push_back(chart.title);
    EXPECT_EQ(row.captions.size(), row.charts.size());
  }
  EXPECT_THAT(titles, ElementsAre("Loss", "Accuracy", "Gradient norm", "Learning rate", "Speed",
                                  "Share of the MoE layers"));
}

// A dense model that was never evaluated has neither an accuracy nor a share.
TEST_F(TrainingReport, LeavesOutWhatARunDoesNotTell) {
  const ReportSection section = section_with_colours(
      read("run.jsonl", metrics_line(StepMetrics{.step = 1, .loss = 2, .images_per_s = 9.5})));
  EXPECT_THAT(texts_of(section.summary.rows[0]),
              ElementsAre(file("run.jsonl"), "1", "0", "2.0000", "–", "–", "–", "–", "–", "9.5", "–", "0"));
  ASSERT_EQ(section.rows.size(), 1U);
  EXPECT_EQ(section.rows[0].charts[0].title, "Loss");
  EXPECT_EQ(section.rows[0].charts[1].title, "Speed");
}

TEST_F(TrainingReport, RunsAreDrawnOverEachOther) {
  std::vector<ReportDocument> documents = {read("a.jsonl", sample_training(10)),
                                           parse_report_document(sample_tune(), "tune.json"),
                                           read("b.jsonl", sample_training(20, 0.75))};
  documents = join_training_runs(std::move(documents));
  ASSERT_EQ(documents.size(), 2U);
  EXPECT_EQ(documents[0].file, file("a.jsonl") + ", " + file("b.jsonl"));
  EXPECT_TRUE(std::holds_alternative<TuneDocument>(documents[1].content));
  const ReportSection section = section_with_colours(documents[0]);
  EXPECT_EQ(section.headline, "2 runs of up to 20 steps, drawn over each other.");
  EXPECT_EQ(section.highlights[0], file("b.jsonl") + ": best top-1 accuracy 75.0% after 10 steps");
  const std::vector<LegendEntry>& legend = section.rows[0].charts[0].legend;
  ASSERT_EQ(legend.size(), 4U);
  EXPECT_EQ(legend[0].label, file("a.jsonl") + ", training");
  EXPECT_EQ(legend[3].label, file("b.jsonl") + ", evaluation");
  EXPECT_EQ(legend[0].colour, legend[2].colour);  // of one run
  EXPECT_NE(legend[0].colour, legend[1].colour);
  const std::string page = report_page(documents, "const modules = {};\n");
  EXPECT_THAT(page, HasSubstr("b.jsonl, training"));
}

TEST_F(TrainingReport, SaysWhatIsWrongWithAFile) {
  EXPECT_EQ(error_of(""), "run.jsonl: holds no metrics yet");
  EXPECT_THAT(error_of(R"({"format":"flexmoe routing trace","version":1})"
                       "\n"),
              HasSubstr("run.jsonl:1: kind: is missing; a line of metrics is"));
}

TEST_F(TrainingReport, NamesStayText) {
  std::vector<ReportDocument> documents = {read("a.jsonl", sample_training(10)),
                                           read("<img src=x onerror=alert(1)>.jsonl", sample_training(10))};
  const std::string page = report_page(join_training_runs(std::move(documents)), "const modules = {};\n");
  EXPECT_THAT(page, Not(HasSubstr("<img")));
}

// Five points as two: steps 1 and 2, then 3 to 5.
TEST(Curves, AreThinnedByMeans) {
  const std::vector<CurvePoint> points = {{1, 1}, {2, 3}, {3, 3}, {4, 4}, {5, 8}};
  const std::vector<CurvePoint> thin = thinned(points, 2);
  ASSERT_EQ(thin.size(), 2U);
  EXPECT_EQ(thin[0].step, 2);
  EXPECT_EQ(thin[0].value, 2);
  EXPECT_EQ(thin[1].step, 5);
  EXPECT_EQ(thin[1].value, 5);
  EXPECT_EQ(thinned(points, 5).size(), 5U);
}

std::string scale_of(const std::vector<double>& values, const CurveAxis& axis) {
  Curve curve{.name = "run"};
  for (const double value : values)
    curve.points.push_back({static_cast<std::int64_t>(curve.points.size()), value});
  return curves_chart("chart", {curve}, axis)->spec["scales"][1].dump();
}

TEST(Curves, HaveAScaleThatFits) {
  const CurveAxis linear{.title = "x"};
  EXPECT_THAT(scale_of({1, 2}, linear), HasSubstr(R"("domain":[0.0,2.0])"));
  EXPECT_THAT(scale_of({1, 2}, {.title = "x", .from_zero = false}), HasSubstr(R"("domain":[1.0,2.0])"));
  EXPECT_THAT(scale_of({0, 0}, linear), HasSubstr(R"("domain":[0.0,1.0])"));
  EXPECT_THAT(scale_of({3, 3}, {.title = "x", .from_zero = false}), HasSubstr(R"("domain":[2.5,3.5])"));
  const CurveAxis either{.title = "x", .may_be_logarithmic = true};
  EXPECT_THAT(scale_of({1, 101}, either), HasSubstr(R"("type":"log")"));
  EXPECT_THAT(scale_of({1, 100}, either), Not(HasSubstr("log")));
  EXPECT_THAT(scale_of({0, 101}, either), Not(HasSubstr("log")));  // zero has no place there
  EXPECT_EQ(curves_chart("chart", {Curve{.name = "run"}}, linear), std::nullopt);
}

}  // namespace
}  // namespace flex
