#include "traces/trace_reader.h"

#include <gmock/gmock.h>

#include <fstream>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/traces/cases.h"

namespace flex {
namespace {

using ::testing::HasSubstr;
using testing::read_and_check;
using testing::small_forward;
using testing::small_header;
using testing::small_records;
using ::testing::StartsWith;
using testing::trace_text;

// As people write them: without checksums.
const std::string kHeader =
    R"({"format":"flexmoe routing trace","version":1,"origins":[{"source":"recorded"}],"model":"m","world":4,)"
    R"("ranks_per_node":2,"layers":[{"count":2,"num_experts":8,"num_tokens":16,"capacity_factor":0,"top_k":2,)"
    R"("model_dim":64,"hidden_dim":128,"dtype":"fp32"}]})"
    "\n";
const std::string kRecord =
    R"({"step":3,"layer":0,"pass":"forward","plan":"r1 d2 linear","needed_capacity":2,"counts":[[0,2,-1,2],[3,1,1]]})"
    "\n";
const std::string kBackward = R"({"step":3,"layer":0,"pass":"backward","plan":"r1 d1 linear"})"
                              "\n";

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

/// The error of a trace whose first record has `by` where `what` was.
std::string record_error(const std::string& what, const std::string& by) {
  return read_and_check(kHeader + replaced(kRecord, what, by)).error;
}
std::string header_error(const std::string& what, const std::string& by) {
  return read_and_check(replaced(kHeader, what, by) + kRecord).error;
}
/// The error of line 3.
std::string next_error(const std::string& line) { return read_and_check(kHeader + kRecord + line).error; }

TEST(TraceReader, ReadsWhatPeopleWrite) {
  const auto result = read_and_check(kHeader + replaced(kRecord, ",\"layer\"", " , \t\"layer\"") + kBackward +
                                     "{\"records\": 2, \"dropped\": 0}\r\n");
  EXPECT_EQ(result.error, "");
  ASSERT_EQ(result.records.size(), 2);
  EXPECT_EQ(result.records[0].counts.dense(4, 8)[2], 2);
  EXPECT_EQ(result.records[0].counts.dense(4, 8)[25], 1);
  EXPECT_EQ(result.records[1].pass, Pass::kBackward);
  EXPECT_EQ(to_string(*result.records[0].plan), "r1 d2 linear");
}

TEST(TraceReader, FieldsOfARecordAreNamed) {
  EXPECT_EQ(record_error("\"step\":3", "\"step\":-3"),
            "trace:2: step: is -3; it must be an integer from 0 to 9223372036854775807");
  EXPECT_EQ(record_error("\"step\":3", "\"step\":9223372036854775808"),
            "trace:2: step: is 9223372036854775808; it must be an integer from 0 to 9223372036854775807");
  EXPECT_EQ(record_error("\"step\":3", "\"step\":1e300"),
            "trace:2: step: is 1e300; it must be an integer from 0 to 9223372036854775807");
  EXPECT_EQ(record_error("\"step\":3", "\"step\":\"3\""),
            "trace:2: step: is \"\\\"3\\\"\"; it must be an integer from 0 to 9223372036854775807");
  EXPECT_EQ(record_error("\"step\":3", "\"step\":03"),
            "trace:2: step: is 03; it must be an integer from 0 to 9223372036854775807");
  EXPECT_EQ(record_error("\"step\":3,", ""), "trace:2: step: is missing");
  EXPECT_EQ(record_error("\"layer\":0,", ""), "trace:2: layer: is missing");
  EXPECT_EQ(record_error("\"pass\":\"forward\",", ""), "trace:2: pass: is missing");
  EXPECT_EQ(record_error("\"layer\":0", "\"layer\":4096"),
            "trace:2: layer: is 4096; it must be an integer from 0 to 4095");
  EXPECT_EQ(record_error("\"layer\":0", "\"layer\":2"), "trace:2: layer: is 2; the header has layers 0 to 1");
  EXPECT_EQ(record_error("forward", "sideways"),
            "trace:2: pass: is \"sideways\"; it must be \"forward\" or \"backward\"");
  EXPECT_THAT(record_error("r1 d2 linear", "r1 x2"), StartsWith("trace:2: plan: "));
  EXPECT_EQ(record_error("\"layer\":0", "\"step\":4"), "trace:2: step: stands here twice");
  EXPECT_EQ(record_error("\"layer\"", "\"layr\""), "trace:2: \"layr\": unknown key; did you mean \"layer\"?");
  EXPECT_EQ(record_error("\"layer\":0", "\"layer\":0,\"duration_ns\":-40"),
            "trace:2: duration_ns: is -40; it must be an integer from 0 to 9223372036854775807");
  EXPECT_EQ(record_error("\"layer\":0", "\"layer\":0,\"top_k\":9"),
            "trace:2: top_k: is 9; it is from 1 to the 8 experts");
  EXPECT_EQ(record_error("\"layer\":0", "\"layer\":0,\"capacity_factor\":1e999"),
            "trace:2: capacity_factor: is 1e999; it must be a finite number");
  EXPECT_EQ(record_error("\"layer\":0", "\"layer\":0,\"capacity_factor\":nan"),
            "trace:2: capacity_factor: is \"nan\"; it must be a finite number");
}

TEST(TraceReader, CountsAreNamedByTheirPlace) {
  EXPECT_EQ(record_error("[3,1,1]", "[3,1,0]"),
            "trace:2: counts[1][2]: is 0; it must be choices, or minus the number of experts without any");
  EXPECT_EQ(record_error("[3,1,1]", "[3,1,1.0]"),
            "trace:2: counts[1][2]: is 1.0; it must be an integer from -1048576 to 2147483647");
  EXPECT_EQ(record_error("[3,1,1]", "[3,1,2147483648]"),
            "trace:2: counts[1][2]: is 2147483648; it must be an integer from -1048576 to 2147483647");
  EXPECT_EQ(
      record_error("[3,1,1]", "[3,1,-9223372036854775808]"),
      "trace:2: counts[1][2]: is -9223372036854775808; it must be an integer from -1048576 to 2147483647");
  EXPECT_EQ(record_error("[3,1,1]", "[3,-1048576,1]"),
            "trace:2: counts[1][2]: is of expert 1048576; there are at most 1048576 experts");
  EXPECT_EQ(record_error("[3,1,1]", "[1048576,1,1]"),
            "trace:2: counts[1][0]: is 1048576; it must be an integer from 0 to 1048575");
  EXPECT_EQ(record_error("[3,1,1]", "[4,1,1]"),
            "trace:2: counts[1]: rank 4 comes after 0; ranks rise and are below 4");
  EXPECT_EQ(record_error("[3,1,1]", "[0,1,1]"),
            "trace:2: counts[1]: rank 0 comes after 0; ranks rise and are below 4");
  EXPECT_EQ(record_error("[3,1,1]", "[3,-7,1,1]"),
            "trace:2: counts[1]: expert 8 comes after 7; experts rise and are below 8");
  EXPECT_EQ(record_error("[3,1,1]", "[3]"), "trace:2: counts[1]: rank 3 has no choices; its row is left out");
  EXPECT_EQ(record_error("[3,1,1]", "[3,1,1,1]"),
            "trace:2: counts[1]: 3 choices of rank 3 are no multiple of top_k 2");
  EXPECT_EQ(
      record_error("[3,1,1]", "[3,2]"),
      "trace:2: counts[1]: expert 0 has 2 choices of the 1 tokens of rank 3; each takes it at most once");
  EXPECT_EQ(record_error("[3,1,1]", "3"), "trace:2: counts[1]: is 3; it must be an array");
  EXPECT_EQ(record_error("[3,1,1]", "[3,1 1]"),
            "trace:2: counts[1][1]: 1 after it, where ',' or ']' must come");
  EXPECT_EQ(record_error("[[0", "{[0"), "trace:2: counts: \"{[0\" where '[' must come");
  EXPECT_EQ(record_error("_capacity\":2", "_capacity\":3"),
            "trace:2: needed_capacity: is 3; the largest of the counts is 2");
  EXPECT_EQ(record_error("\"needed_capacity\":2,", ""), "trace:2: needed_capacity: is missing");
  EXPECT_EQ(record_error(",\"counts\":[[0,2,-1,2],[3,1,1]]", ""), "trace:2: counts: is missing");
}

TEST(TraceReader, LinesThatAreNoRecordAreNamed) {
  EXPECT_EQ(next_error("\n"), "trace:3: the end of the line where '{' must come");
  EXPECT_EQ(next_error("[]\n"), "trace:3: \"[\" where '{' must come");
  EXPECT_EQ(next_error("{}\n"), "trace:3: is \"}\"; it must be a string");
  EXPECT_EQ(next_error(replaced(kRecord, "]]}", "]]} {}")),
            "trace:3: \"{\" after the record; a line holds one");
  EXPECT_EQ(next_error("{\"step\" 4}\n"), "trace:3: step: 4 where ':' must come");
  EXPECT_EQ(next_error("{\"st\\u0065p\":4}\n"), "trace:3: a byte that no name here has");
  EXPECT_EQ(next_error(kHeader), "trace:3: \"format\": unknown key");
  EXPECT_EQ(read_and_check(kHeader + std::string(5000, ' ') + "\n", 4096).error,
            "trace:2: the line is longer than 4096 bytes");
}

TEST(TraceReader, OrderIsChecked) {
  EXPECT_EQ(next_error(kRecord), "trace:3: pass: the forward pass of step 3, layer 0 came before");
  EXPECT_EQ(next_error(replaced(kRecord, "\"step\":3", "\"step\":2")),
            "trace:3: step: is 2 after step 3; steps do not go back");
  EXPECT_EQ(next_error(replaced(kBackward, "\"layer\":0", "\"layer\":1")),
            "trace:3: pass: a backward pass of step 3, layer 1 without its forward pass before it");
  EXPECT_EQ(next_error(replaced(kBackward, "\"step\":3", "\"step\":4")),
            "trace:3: pass: a backward pass of step 4, layer 0 without its forward pass before it");
  EXPECT_EQ(next_error(kBackward + kBackward),
            "trace:4: pass: the backward pass of step 3, layer 0 came before");
  EXPECT_EQ(next_error(replaced(kBackward, "r1", "r2")),
            "trace:3: plan: the backward plan 'r2 d1 linear' must use the forward plan's r1");
  EXPECT_EQ(next_error(replaced(kBackward, "}", ",\"counts\":[]}")),
            "trace:3: counts: belongs to the forward pass; leave it out of a backward one");
  EXPECT_EQ(
      next_error(replaced(kBackward, "}", ",\"top_k\":1}")),
      "trace:3: pass: counts, top_k and capacity_factor are those of the forward pass; leave them out of a "
      "backward one");
}

TEST(TraceReader, TheTrailerIsChecked) {
  EXPECT_EQ(next_error(""), "trace:3: there is no trailer; the file was cut off, or is still being written");
  EXPECT_EQ(next_error("{\"records\":2,\"dropped\":0}\n"), "trace:3: records: is 2; there are 1");
  EXPECT_EQ(next_error("{\"records\":1,\"dropped\":0}\n{\"records\":1,\"dropped\":0}\n"),
            "trace:4: something comes after the trailer, which is the last line");
  EXPECT_EQ(next_error("{\"records\":1}\n"), "trace:3: dropped: is missing");
  EXPECT_EQ(next_error("{\"dropped\":1}\n"), "trace:3: records: is missing");
  EXPECT_EQ(next_error("{\"step\":3,\"records\":1,\"dropped\":0}\n"),
            "trace:3: records: stands in a record; it belongs into the last line, beside dropped alone");
  EXPECT_EQ(next_error("{\"records\":1,\"dropped\":0}"), "") << "only the end of the line is missing";
}

TEST(TraceReader, TheHeaderIsChecked) {
  EXPECT_EQ(read_and_check("").error, "trace: is empty; the first line of a routing trace is its header");
  EXPECT_EQ(read_and_check(kRecord).error,
            "trace:1: format: is missing; the first line of a routing trace is its header");
  EXPECT_THAT(read_and_check("no JSON\n").error, StartsWith("trace:1:"));
  EXPECT_THAT(read_and_check("[]\n").error, StartsWith("trace:1: is an array; it must be an object"));
  EXPECT_EQ(
      header_error("flexmoe routing", "another"),
      "trace:1: format: is not \"flexmoe routing trace\"; the first line of a routing trace is its header");
  EXPECT_EQ(header_error("\"version\":1", "\"version\":2"),
            "trace:1: version: is 2; this program reads version 1: a newer one wrote the file");
  EXPECT_EQ(header_error("\"version\":1", "\"version\":0"), "trace:1: version: is 0; it must be at least 1");
  EXPECT_EQ(header_error("\"world\":4", "\"world\":1048577"),
            "trace:1: world: is 1048577; it must be at least 1 and at most 1048576");
  EXPECT_EQ(header_error("\"world\":4", "\"world\":-4"),
            "trace:1: world: is -4; it must be at least 1 and at most 1048576");
  EXPECT_EQ(header_error("\"world\":4", "\"world\":4,\"world\":4").substr(0, 8), "trace:1:") << "twice";
  EXPECT_EQ(header_error("\"num_experts\":8", "\"num_experts\":1e300"),
            "trace:1: layers[0].num_experts: is 1e+300; it must be an integer");
  EXPECT_EQ(
      header_error("\"num_experts\":8", "\"num_experts\":9223372036854775808"),
      "trace:1: layers[0].num_experts: is 9223372036854775808; it must be at least 1 and at most 1048576");
  EXPECT_EQ(header_error("\"num_experts\":8", "\"num_experts\":6"),
            "trace:1: layers[0]: 6 experts do not spread over 4 ranks: one must divide the other");
  EXPECT_EQ(header_error("\"count\":2", "\"count\":5000"),
            "trace:1: layers[0].count: is 5000; it must be at least 1 and at most 4096");
  EXPECT_EQ(header_error("\"recorded\"", "\"record\""),
            "trace:1: origins[0].source: is \"record\"; it must be one of recorded, generated, imported, "
            "resharded (did you mean recorded?)");
  EXPECT_EQ(header_error("\"model\":\"m\"", "\"modell\":\"m\""),
            "trace:1: model: is missing; there is \"modell\"");
  EXPECT_EQ(
      header_error("\"dtype\":\"fp32\"", "\"dtype\":\"i32\""),
      "trace:1: layers[0].dtype: is \"i32\"; it must be one of fp64, fp32, fp16, bf16 (did you mean fp32?)");
}

TEST(TraceReader, ChecksumsAreCompared) {
  const std::string good = trace_text(small_header(), {small_forward()});
  const std::string bad = replaced(good, "81250", "81251");
  EXPECT_THAT(
      read_and_check(bad).error,
      ::testing::MatchesRegex("trace:2: crc32: is \"[0-9a-f]+\"; the line gives \"[0-9a-f]+\": it was "
                              "damaged, or changed by hand \\(then leave crc32 out\\)"));
  EXPECT_THAT(read_and_check(replaced(good, "a model", "b model")).error, StartsWith("trace:1: crc32: is "));
  EXPECT_EQ(record_error("\"step\":3", "\"crc32\":\"01234567\",\"step\":3"),
            "trace:2: crc32: is not last; a checksum ends its line, as 8 hexadecimal digits");
}

class TraceFile : public ::testing::Test {
 protected:
  [[nodiscard]] std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(directory_ / name, std::ios::binary) << content;
    return (directory_ / name).string();
  }
  TemporaryDirectory directory_;
};

TEST_F(TraceFile, IsUnpackedByItsName) {
  const std::string text = trace_text(small_header(), small_records());
  for (const std::string& file : {write("a.jsonl", text), write("a.jsonl.gz", testing::gzip_text(text)),
                                  write("two.jsonl.gz", testing::gzip_text(text.substr(0, 700)) +
                                                            testing::gzip_text(text.substr(700)))}) {
    TraceReader reader(file);
    TraceRecord record;
    std::vector<TraceRecord> records;
    while (reader.next(record)) records.push_back(record);
    EXPECT_EQ(records, small_records()) << file;
    EXPECT_EQ(reader.trailer()->num_records, 8);
    EXPECT_FALSE(reader.next(record)) << "the end stays the end";
  }
}

TEST_F(TraceFile, IsNamedInMessages) {
  const std::string text = trace_text(small_header(), small_records());
  const std::string packed = write("packed.jsonl", testing::gzip_text(text));
  EXPECT_EQ(message_of<InputError>([&] { TraceReader reader(packed); }),
            packed + ": is gzip data; its name must then end in .gz");
  const std::string plain = write("plain.jsonl.gz", text);
  EXPECT_EQ(message_of<InputError>([&] { TraceReader reader(plain); }),
            plain + ":1: not gzip data, or damaged (incorrect header check)");
  EXPECT_THAT(message_of<FileError>([&] { TraceReader reader(directory_ / "none"); }),
              HasSubstr("none: No such file or directory"));
  EXPECT_THAT(message_of<FileError>([&] { TraceReader reader(directory_.path()); }),
              HasSubstr("Is a directory"));
}

TEST_F(TraceFile, DamageStopsOrThrows) {
  const std::string text = trace_text(small_header(), small_records());
  const std::string file = write("cut.jsonl", text.substr(0, text.size() - 100));
  TraceReader stopping(file, TraceDamage::kStop);
  TraceRecord record;
  while (stopping.next(record)) {
  }
  EXPECT_EQ(stopping.num_records(), 7);
  EXPECT_EQ(stopping.damage(), file + ":9: the line is cut off");
  EXPECT_FALSE(stopping.trailer());
  TraceReader throwing(file);
  EXPECT_EQ(message_of<InputError>([&] {
              while (throwing.next(record)) {
              }
            }),
            file + ":9: the line is cut off");
}

}  // namespace
}  // namespace flex
