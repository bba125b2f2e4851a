#include "traces/import_megatron.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/traces/cases.h"

namespace flex {
namespace {

using ::testing::HasSubstr;

/// A line with two tokens.
std::string line(int step, int layer, int rank, const std::string& indices = "[[0,1],[1,3]]") {
  return fmt::format(
      R"({{"step":{},"block":"decoder","layer":{},"rank":{},"num_tokens":2,"topk":2,"top_indices":{}}})"
      "\n",
      step, layer, rank, indices);
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

class MegatronFiles : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / name, std::ios::binary) << text;
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (directory_ / name).string(); }

  [[nodiscard]] std::vector<TraceRecord> import() {
    MegatronImport import(router_trace_files(directory_.path()),
                          {.layer = {.workload = {.num_experts = 4, .model_dim = 8, .hidden_dim = 16}},
                           .model = "m",
                           .hardware = "h"});
    header_ = import.header();
    std::vector<TraceRecord> records;
    TraceRecord record;
    while (import.next(record)) records.push_back(record);
    EXPECT_FALSE(import.next(record)) << "the end stays the end";
    return records;
  }
  [[nodiscard]] std::string error() {
    return message_of<InputError>([&] { (void)import(); });
  }

  /// Two ranks, two layers, two steps; rank 1's lines in another order.
  void write_good() const {
    write("a.jsonl", line(5, 1, 0) + line(5, 2, 0, "[[3,2],[3,0]]") + line(9, 1, 0) + line(9, 2, 0));
    write("b.jsonl", line(5, 2, 1) + line(5, 1, 1, "[[2,3],[3,2]]") + line(9, 2, 1) + line(9, 1, 1));
  }

  TemporaryDirectory directory_;
  TraceHeader header_;
};

TEST_F(MegatronFiles, BecomeATrace) {
  write_good();
  write("notes.txt", "not a trace");
  const std::vector<TraceRecord> records = import();
  EXPECT_EQ(header_.world, 2);
  EXPECT_EQ(header_.model, "m");
  ASSERT_EQ(header_.layers.size(), 2);
  EXPECT_EQ(header_.layers[0].workload.top_k, 2);
  EXPECT_EQ(header_.layers[0].workload.num_tokens, 2);
  EXPECT_EQ(header_.layers[0].workload.hidden_dim, 16);
  EXPECT_EQ(
      header_.origins,
      (std::vector<TraceOrigin>{{.source = TraceSource::kImported, .file = path("a.jsonl"), .world = 2}}));
  ASSERT_EQ(records.size(), 4);
  EXPECT_EQ(records[0].step, 5);
  EXPECT_EQ(records[0].layer, 0);
  EXPECT_EQ(records[0].counts.dense(2, 4), (std::vector<std::int64_t>{1, 2, 0, 1, 0, 0, 2, 2}));
  EXPECT_EQ(records[1].layer, 1);
  EXPECT_EQ(records[1].counts.dense(2, 4), (std::vector<std::int64_t>{1, 0, 1, 2, 1, 2, 0, 1}));
  EXPECT_EQ(records[3].step, 9);
  EXPECT_EQ(testing::read_and_check(testing::trace_text(header_, records)).error, "");
}

TEST_F(MegatronFiles, MayBePackedAndHaveFurtherFields) {
  const std::string more = replaced(line(1, 0, 0), "\"topk\"", "\"loss\":[1.5],\"topk\"");
  write("a.jsonl", replaced(more, "\"decoder\"", "7"));
  write("b.jsonl.gz", testing::gzip_text(replaced(line(1, 0, 1), "\"decoder\"", "7")));
  EXPECT_EQ(import().size(), 1);
}

TEST_F(MegatronFiles, ARankMayHaveNoTokens) {
  write("a.jsonl", replaced(line(1, 0, 0, "[]"), "\"num_tokens\":2", "\"num_tokens\":0"));
  const std::vector<TraceRecord> records = import();
  ASSERT_EQ(records.size(), 1);
  EXPECT_TRUE(records[0].counts.empty());
}

TEST_F(MegatronFiles, LinesThatCannotBeAreNamed) {
  const std::pair<std::string, std::string> mistakes[] = {
      {line(1, 0, 0, "[[0,1],[1,4]]"), "a.jsonl:1: top_indices[1][1]: is 4; the experts are 0 to 3"},
      {line(1, 0, 0, "[[0,1],[-1,3]]"), "a.jsonl:1: top_indices[1][0]: is -1; the experts are 0 to 3"},
      {line(1, 0, 0, "[[0,1],[3,3]]"),
       "a.jsonl:1: top_indices[1][1]: is 3 for the second time; a token takes an expert once"},
      {line(1, 0, 0, "[[0,1],[3]]"), "a.jsonl:1: top_indices[1]: has 1 experts; topk is 2"},
      {line(1, 0, 0, "[[0,1]]"), "a.jsonl:1: top_indices: has 1 tokens; num_tokens is 2"},
      {line(1, 0, 0, "[[0,1],[3,1e300]]"), "a.jsonl:1: top_indices[1][1]: is 1e+300; it must be an integer"},
      {line(1, 0, 0, "7"), "a.jsonl:1: top_indices: is 7; it must be an array"},
      {line(1, 0, 0) + line(1, 0, 0),
       "a.jsonl:2: block \"decoder\", layer 0 of step 1 came before, in line 1"},
      {line(2, 0, 0) + line(1, 0, 0), "a.jsonl:2: step: is 1 after step 2; steps do not go back"},
      {line(1, 0, 0) + line(2, 0, 1),
       "a.jsonl:2: rank: is 1; the lines before are of rank 0, and a file holds one rank"},
      {line(1, 0, 0) + line(2, 1, 0), "a.jsonl:2: block \"decoder\", layer 1 is none of the 1 layer(s) that"},
      {line(1, 0, 0) + replaced(line(2, 0, 0, "[[1],[2]]"), "\"topk\":2", "\"topk\":1"),
       "a.jsonl:2: topk: is 1; in the steps before it was 2"},
      {line(1, 0, 0) + line(1, 1, 0) + line(2, 0, 0),
       "a.jsonl: step 2 has no line of block \"decoder\", layer 1"},
      {replaced(line(1, 0, 0), "\"topk\":2", "\"topk\":5"),
       "a.jsonl:1: topk: is 5; it must be at least 1 and at most 4"},
      {replaced(line(1, 0, 0), "\"step\":1,", ""), "a.jsonl:1: step: is missing"},
      {replaced(line(1, 0, 0), "\"decoder\"", "[]"), "a.jsonl:1: block: is neither a string nor an integer"},
      {line(1, 0, 0) + "{\n", "a.jsonl:2:"},
      {line(1, 0, 1), "rank 0 is missing: of 1 file(s) the next is"},
      {"", "a.jsonl: is empty; a router trace has a line for each step and layer"}};
  for (const auto& [text, words] : mistakes) {
    write("a.jsonl", text);
    EXPECT_THAT(error(), HasSubstr(words));
  }
}

TEST_F(MegatronFiles, RanksThatDisagreeAreNamed) {
  const std::string good = line(1, 0, 0) + line(2, 0, 0);
  const std::pair<std::string, std::string> mistakes[] = {
      {line(1, 0, 1) + line(3, 0, 1), "b.jsonl:2: step: is 3; " + path("a.jsonl") + ":2 has 2"},
      {line(1, 0, 1), "b.jsonl: has ended, where " + path("a.jsonl") + ":2 goes on with step 2"},
      {line(1, 0, 1) + line(2, 0, 1) + line(3, 0, 1),
       "b.jsonl:3: goes on with step 3, where " + path("a.jsonl") + " has ended"},
      {replaced(line(1, 0, 1, "[[1],[2]]"), "\"topk\":2", "\"topk\":1"),
       "b.jsonl:1: topk: is 1; " + path("a.jsonl") + ":1 has 2 for block \"decoder\", layer 0"},
      {line(1, 1, 1), "b.jsonl:1: block \"decoder\", layer 1 is none of the 1 layer(s)"},
      {line(1, 0, 0), "are both of rank 0"},
      {line(1, 0, 2), "rank 1 is missing: of 2 file(s) the next is " + path("b.jsonl") + ", of rank 2"}};
  write("a.jsonl", good);
  for (const auto& [text, words] : mistakes) {
    write("b.jsonl", text);
    EXPECT_THAT(error(), HasSubstr(words));
  }
}

TEST_F(MegatronFiles, AreLookedForInAFolder) {
  EXPECT_EQ(message_of<InputError>([&] { (void)router_trace_files(directory_.path()); }),
            "the folder " + directory_.path().string() + " has no files that end in .jsonl or .jsonl.gz");
  EXPECT_EQ(message_of<InputError>([&] { (void)router_trace_files(directory_ / "none"); }),
            "there is no file or folder " + path("none"));
  write("x.jsonl", "");
  EXPECT_THAT(router_trace_files(directory_ / "x.jsonl"), ::testing::ElementsAre(directory_ / "x.jsonl"));
  EXPECT_EQ(message_of<InputError>([] { MegatronImport import({}, {}); }), "no files to import");
}

}  // namespace
}  // namespace flex
