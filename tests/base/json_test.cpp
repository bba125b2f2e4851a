#include "base/json.h"

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/read_file.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

using testing::StartsWith;

std::string parse_error_of(std::string_view text) {
  return message_of<InputError>([&] { (void)parse_json(text, "x.json"); });
}

TEST(ParseJson, ReadsADocument) {
  const auto value = parse_json(R"( {"a": [1, -2.5e3, true, null], "b": {"a": "\u00e9"}} )", "x.json");
  EXPECT_EQ(value["a"][1], -2500.0);
  EXPECT_EQ(value["b"]["a"], "\xc3\xa9");
}

TEST(ParseJson, SyntaxErrorsHaveLineAndColumn) {
  EXPECT_THAT(parse_error_of("{\n  \"a\": 1,\n  \"b\" {}\n}"), StartsWith("x.json:3:7: syntax error"));
  EXPECT_THAT(parse_error_of("[1, }"), StartsWith("x.json:1:5: syntax error"));
  EXPECT_THAT(parse_error_of(""), StartsWith("x.json:1:1: "));
  EXPECT_THAT(parse_error_of("{\"a\":\n"), StartsWith("x.json:1:6: "));
  EXPECT_THAT(parse_error_of("{} {}"), StartsWith("x.json:1:4: "));
}

TEST(ParseJson, DuplicateKeysAreRefused) {
  EXPECT_EQ(parse_error_of("{\"a\": 1,\n \"a\": 2}"), "x.json:2:4: duplicate key \"a\"");
  EXPECT_EQ(parse_error_of(R"({"o": [{"k": 1}, {"k": 1, "k": 1}]})"), "x.json:1:29: duplicate key \"k\"");
  EXPECT_EQ(parse_error_of(R"({"a": 1, "\u0061": 2})"), "x.json:1:17: duplicate key \"a\"");
  EXPECT_NO_THROW((void)parse_json(R"({"a": {"a": [{"a": 1}, {"a": 2}]}})", "x.json"));
}

TEST(ParseJson, WhatJsonDoesNotHaveIsRefused) {
  for (const char* text :
       {"NaN", "Infinity", "-Infinity", "[nan]", "1e400", "-1e400", "01", "1.", "'a'", "[1,]", "// c\n1",
        "{a: 1}", "+1", "\"\t\"", "\"\xff\"", "\"\xed\xa0\x80\"", "\"\\ud800\""}) {
    EXPECT_THAT(parse_error_of(text), StartsWith("x.json:")) << text;
  }
  EXPECT_THAT(parse_error_of("\"\xff\""), testing::Not(testing::HasSubstr("\xff")));
}

TEST(ParseJson, AZeroByteDoesNotEndTheText) {
  EXPECT_EQ(parse_error_of(std::string_view("{}\0{", 4)), "x.json:1:3: zero byte in JSON text");
}

TEST(ParseJson, DeepNestingIsRefused) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW((void)parse_json(nested(kMaxJsonDepth), "x.json"));
  EXPECT_EQ(parse_error_of(nested(kMaxJsonDepth + 1)), "x.json:1:129: nested deeper than 128 levels");
  EXPECT_THAT(parse_error_of(std::string(1'000'000, '[')), testing::HasSubstr("nested deeper"));
}

TEST(JsonFile, RoundTrips) {
  const TemporaryDirectory directory;
  const nlohmann::json value = {{"tiny", 4.9406564584124654e-324},
                                {"third", 1.0 / 3.0},
                                {"large", std::numeric_limits<std::uint64_t>::max()},
                                {"small", std::numeric_limits<std::int64_t>::min()},
                                {"text", "line\nbreak \xc3\xa9"},
                                {"empty", nlohmann::json::array()}};
  write_json_file(directory / "x.json", value);
  EXPECT_EQ(read_json_file(directory / "x.json"), value);
  EXPECT_TRUE(read_file(directory / "x.json", 10'000).ends_with("}\n"));
}

TEST(JsonFile, WhatCannotBeReadBackIsNotWritten) {
  const TemporaryDirectory directory;
  write_json_file(directory / "x.json", 1);
  const nlohmann::json not_a_number = {{"a", {1.0, std::numeric_limits<double>::quiet_NaN()}}};
  EXPECT_THAT(message_of<InputError>([&] { write_json_file(directory / "x.json", not_a_number); }),
              testing::EndsWith("x.json: JSON has no number for nan"));
  EXPECT_THROW(write_json_file(directory / "x.json", std::numeric_limits<double>::infinity()), InputError);
  EXPECT_THROW(write_json_file(directory / "x.json", "\xff"), InputError);
  EXPECT_EQ(read_json_file(directory / "x.json"), 1) << "the old file stays";
}

TEST(JsonFile, MissingFileIsAFileError) {
  EXPECT_EQ(message_of<FileError>([] { (void)read_json_file("/no/x.json"); }),
            "cannot open /no/x.json: No such file or directory");
}

TEST(QuoteName, IsOneShortPrintableLine) {
  EXPECT_EQ(quote_name("a\"b\nc"), R"("a\"b\nc")");
  EXPECT_EQ(quote_name("\xff"), "\"\xef\xbf\xbd\"");
  EXPECT_EQ(quote_name(std::string(1000, 'x')), '"' + std::string(80, 'x') + "...\"");
}

}  // namespace
}  // namespace flex
