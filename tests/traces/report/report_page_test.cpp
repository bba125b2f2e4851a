#include "traces/report/report_page.h"

#include <gmock/gmock.h>

#include <fstream>
#include <regex>

#include "base/error.h"
#include "tests/base/temporary_directory.h"
#include "tests/traces/report/other_documents.h"
#include "tests/traces/report/sample_replay.h"
#include "traces/report/vega_library.h"

namespace flex {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kNoVega = "const modules = {};\n";

std::string page_of(const json& document) {
  const std::vector<ReportDocument> documents = {parse_report_document(document, "run.json")};
  return report_page(documents, kNoVega);
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

TEST(ReportPage, HasEachChartOfAReplay) {
  const std::string page = page_of(sample_replay({.scenarios = {"base", "other"}, .nodes = {4, 8}}));
  EXPECT_EQ(count(page, "<figure id="), 13U);  // six of each scenario, and the scaling
  EXPECT_EQ(count(page, "<details>"), 13U);
  EXPECT_EQ(count(page, "role=\"img\" aria-label=\""), 13U);
}

TEST(ReportPage, EqualDocumentsGiveAnEqualPage) {
  EXPECT_EQ(page_of(sample_replay({.seed = 7})), page_of(sample_replay({.seed = 7})));
}

// Whatever names a file holds, they stay text.
TEST(ReportPage, NothingInADocumentBreaksOut) {
  const std::string evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&";
  json document = sample_replay({.scenarios = {"base", evil}, .nodes = {4, 8}});
  document["trace"]["file"] = evil;
  document["trace"]["model"] = evil;
  for (json& scenario : document["scenarios"]) {
    scenario["cluster"] = evil;
    scenario["changes"] = {evil};
    scenario["policies"][3]["policy"] = evil;
    scenario["policies"][3]["resolved"] = evil;
    scenario["policies"][3]["plans"][1]["plans"] = evil;
    scenario["timeline"]["spans"][0]["name"] = evil;
    scenario["timeline"]["spans"][0]["stream"] = evil;
  }
  const std::string page = page_of(document);
  const std::string harmless = page_of(sample_replay({.scenarios = {"base", "other"}, .nodes = {4, 8}}));
  EXPECT_EQ(count(page, "<script"), count(harmless, "<script"));
  EXPECT_EQ(count(page, "</script"), count(harmless, "</script"));
  EXPECT_EQ(count(page, "<img"), 0U);
  EXPECT_EQ(count(page, "alert(1)</"), 0U);
}

// No file beside it, no network.
TEST(ReportPage, AsksForNothing) {
  const std::string page = page_of(sample_replay({}));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  const std::regex request(R"((\ssrc=|<link|@import|url\(|fetch\(|XMLHttpRequest|\shref=))");
  EXPECT_FALSE(std::regex_search(page, request));
}

TEST(ReportPage, TheThreeLinesOfAReplay) {
  json document = sample_replay({.steps = 4});
  json& policies = document["scenarios"][0]["policies"];
  json online = policies[3];
  online["total_us"] = 2.5e6;
  online["error_us"] = 1e5;
  online["speedup_over_default"] = 1.25;
  online["speedup_over_best_static"] = 1.02;
  online["regret_share"] = 0.011;
  online["class_us"] = {{"exchange", 5e5}, {"experts", 2e6}};
  online["memory"] = {{"peak_bytes", 3'000'000'000}, {"fits", true}};
  policies[0]["class_us"] = {{"exchange", 1.0}, {"experts", 1.0}};
  policies = {policies[0], online};
  const std::vector<ReportDocument> documents = {parse_report_document(document, "run.json")};
  EXPECT_THAT(
      report_highlights(documents),
      ElementsAre(
          "online takes 2.50 s ± 100 ms, 1.250× as fast as the default plan, 1.020× as fast as the best "
          "static plan",
          "All-to-All is 20.0% of its time, 50.0% of that of static:r1 d1 linear; it takes 1.1% more than "
          "the oracle",
          "1.2% of the choices are dropped; a rank needs up to 3.00 GB (fits)"));
}

TEST(ReportPage, SeveralDocumentsShareTheThreeLines) {
  const std::vector<ReportDocument> documents = {parse_report_document(sample_tune(), "a.json"),
                                                 parse_report_document(sample_simulate(), "b.json")};
  const auto lines = report_highlights(documents);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0],
            "a.json: r0 d1 linear / r1 d1 linear is the best plan of layer T 128, C 16: 1.63 ms, +22.9% over "
            "the default "
            "plan");
  EXPECT_EQ(lines[1], "b.json: r1 d2 2dh is the fastest plan on 64 ranks: 79.0 ms ± 6.42 ms");
  EXPECT_THAT(lines[2], HasSubstr("a.json: the best searches evaluated 36 of 36 candidates in 2 layer(s)"));
}

TEST(VegaLibrary, AModuleThatWouldEndTheScriptIsRefused) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "vega-util.min.js") << "var a = '</script>';";
  try {
    (void)vega_script(directory.path());
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("vega-util.min.js: holds '</script', which ends a script in a page"));
  }
}

TEST(VegaLibrary, AFolderWithoutItIsAnError) {
  const TemporaryDirectory directory;
  EXPECT_THROW((void)vega_script(directory.path()), FileError);
}

}  // namespace
}  // namespace flex
