#include "base/json_object.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

JsonObject object_of(std::string_view text) { return {parse_json(text, "x.json"), "x.json"}; }

template <class T>
std::string error_of(std::string_view text, const JsonRange& range = {}) {
  return message_of<InputError>([&] { (void)object_of(text).required<T>("key", range); });
}

TEST(JsonObject, ReadsEveryType) {
  JsonObject object =
      object_of(R"({"flag": true, "count": -3, "large": 18446744073709551615, "ratio": 2, "text": "t",
                                    "inner": {"a": 1}, "list": [1, 2.5], "ints": [1], "words": ["a", "b"],
                                    "objects": [{"a": 5}], "table": [[1, 2], []], "counts": [[7]]})");
  EXPECT_TRUE(object.required<bool>("flag"));
  EXPECT_EQ(object.required<int>("count"), -3);
  EXPECT_EQ(object.required<std::int64_t>("count"), -3);
  EXPECT_EQ(object.required<std::uint64_t>("large"), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(object.required<double>("ratio"), 2.0);
  EXPECT_EQ(object.required<std::string>("text"), "t");
  EXPECT_EQ(object.required<JsonObject>("inner").required<int>("a"), 1);
  EXPECT_EQ(object.required<std::vector<double>>("list"), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(object.required<std::vector<std::int64_t>>("ints"), (std::vector<std::int64_t>{1}));
  EXPECT_EQ(object.required<std::vector<std::string>>("words"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(object.required<std::vector<JsonObject>>("objects")[0].required<int>("a"), 5);
  EXPECT_EQ(object.required<std::vector<std::vector<double>>>("table"),
            (std::vector<std::vector<double>>{{1, 2}, {}}));
  EXPECT_EQ(object.required<std::vector<std::vector<std::int64_t>>>("counts")[0][0], 7);
  EXPECT_NO_THROW(object.finish());
}

TEST(JsonObject, OptionalIsNothingOnlyIfAbsent) {
  JsonObject object = object_of(R"({"a": 4, "b": null})");
  EXPECT_EQ(object.optional<int>("a"), 4);
  EXPECT_EQ(object.optional<int>("c"), std::nullopt);
  EXPECT_EQ(message_of<InputError>([&] { (void)object.optional<int>("b"); }),
            "x.json: b: is null; it must be an integer");
  EXPECT_THROW((void)object.optional<int>("a", JsonRange::at_least(5)), InputError);
}

TEST(JsonObject, WrongTypesSayWhatIsRight) {
  EXPECT_EQ(error_of<double>(R"({"key": "fast"})"), "x.json: key: is \"fast\"; it must be a number");
  EXPECT_EQ(error_of<bool>(R"({"key": 1})"), "x.json: key: is 1; it must be true or false");
  EXPECT_EQ(error_of<int>(R"({"key": 1.5})"), "x.json: key: is 1.5; it must be an integer");
  EXPECT_EQ(error_of<int>(R"({"key": 1e3})"), "x.json: key: is 1000.0; it must be an integer");
  EXPECT_EQ(error_of<std::string>(R"({"key": []})"), "x.json: key: is an array; it must be a string");
  EXPECT_EQ(error_of<JsonObject>(R"({"key": 7})"), "x.json: key: is 7; it must be an object");
  EXPECT_EQ(error_of<std::vector<double>>(R"({"key": {}})"),
            "x.json: key: is an object; it must be an array");
  EXPECT_EQ(error_of<std::vector<double>>(R"({"key": [0, null]})"),
            "x.json: key[1]: is null; it must be a number");
  EXPECT_EQ(error_of<std::vector<std::vector<double>>>(R"({"key": [[], [true]]})"),
            "x.json: key[1][0]: is true; it must be a number");
}

TEST(JsonObject, IntegersMustFit) {
  EXPECT_EQ(error_of<int>(R"({"key": 2147483648})"),
            "x.json: key: is 2147483648; it must be an integer between -2147483648 and 2147483647");
  EXPECT_THAT(error_of<std::int64_t>(R"({"key": 9223372036854775808})"),
              testing::HasSubstr("must be an integer"));
  EXPECT_THAT(error_of<std::uint64_t>(R"({"key": -1})"), testing::HasSubstr("must be an integer between 0"));
  EXPECT_THAT(error_of<std::int64_t>(R"({"key": 1e300})"), testing::HasSubstr("must be an integer"));
  EXPECT_EQ(object_of(R"({"key": -9223372036854775808})").required<std::int64_t>("key"),
            std::numeric_limits<std::int64_t>::min());
}

TEST(JsonObject, RangesHaveTheirEnds) {
  EXPECT_EQ(error_of<double>(R"({"key": -3})", JsonRange::at_least(0)),
            "x.json: key: is -3; it must be at least 0");
  EXPECT_EQ(error_of<double>(R"({"key": 0})", JsonRange::above(0)), "x.json: key: is 0; it must be above 0");
  EXPECT_EQ(error_of<int>(R"({"key": 9})", JsonRange::between(1, 8)),
            "x.json: key: is 9; it must be at least 1 and at most 8");
  EXPECT_EQ(error_of<int>(R"({"key": 9})", {.max = 8}), "x.json: key: is 9; it must be at most 8");
  EXPECT_EQ(error_of<std::vector<int>>(R"({"key": [1, 0]})", JsonRange::at_least(1)),
            "x.json: key[1]: is 0; it must be at least 1");
  EXPECT_EQ(object_of(R"({"key": 8})").required<int>("key", JsonRange::between(8, 8)), 8);
}

TEST(JsonObject, PathsReachInside) {
  JsonObject object = object_of(R"({"links": [{}, {"a b": {"x.y": 1}}]})");
  auto link = object.required<std::vector<JsonObject>>("links")[1];
  EXPECT_EQ(link.place("a"), "x.json: links[1].a");
  auto inner = link.required<JsonObject>("a b");
  EXPECT_EQ(inner.place("x.y"), R"(x.json: links[1]["a b"]["x.y"])");
  EXPECT_EQ(inner.path("x.y"), R"(links[1]["a b"]["x.y"])");
  EXPECT_EQ(object.path(), "");
  EXPECT_EQ(object.place(), "x.json");
  EXPECT_EQ(message_of<InputError>([&] { inner.reject("x.y", "{} is odd", 1); }),
            R"(x.json: links[1]["a b"]["x.y"]: 1 is odd)");
}

TEST(JsonObject, MissingKeysNameTheNearest) {
  JsonObject object = object_of(R"({"latencyus": 1})");
  EXPECT_EQ(message_of<InputError>([&] { (void)object.required<double>("latency_us"); }),
            "x.json: latency_us: is missing; there is \"latencyus\"");
  EXPECT_EQ(message_of<InputError>([&] { (void)object.required<double>("nodes"); }),
            "x.json: nodes: is missing");
}

TEST(JsonObject, FinishRefusesUnknownKeys) {
  JsonObject object = object_of(R"({"latencyus": 1, "name": "a"})");
  (void)object.optional<double>("latency_us");
  (void)object.required<std::string>("name");
  EXPECT_EQ(message_of<InputError>([&] { object.finish(); }),
            "x.json: latencyus: unknown key; did you mean \"latency_us\"?");
  JsonObject other = object_of(R"({"gpus": 1})");
  EXPECT_EQ(message_of<InputError>([&] { other.finish(); }), "x.json: gpus: unknown key; known here: none");
  (void)other.optional<int>("nodes");
  (void)other.optional<int>("latency_us");
  EXPECT_EQ(message_of<InputError>([&] { other.finish(); }),
            "x.json: gpus: unknown key; known here: nodes, latency_us");
}

TEST(JsonObject, OneOfNamesTheChoices) {
  JsonObject object = object_of(R"({"a": "linaer", "b": "2dh"})");
  EXPECT_EQ(object.one_of("b", {"linear", "2dh"}), "2dh");
  EXPECT_EQ(object.optional_one_of("c", {"linear", "2dh"}), std::nullopt);
  EXPECT_EQ(message_of<InputError>([&] {
              (void)object.one_of("a", {"linear", "2dh"});
            }),
            "x.json: a: is \"linaer\"; it must be one of linear, 2dh (did you mean linear?)");
}

TEST(JsonObject, FreeKeysAreListed) {
  JsonObject object = object_of(R"({"b": 1, "a": 2})");
  EXPECT_EQ(object.keys(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(object.contains("a"));
  EXPECT_FALSE(object.contains("c"));
  EXPECT_EQ(object.raw("b"), 1);
}

TEST(JsonObject, ChildrenOutliveTheirParents) {
  const auto child = [] { return object_of(R"({"a": {"b": "kept"}})").required<JsonObject>("a"); };
  EXPECT_EQ(child().required<std::string>("b"), "kept");
}

TEST(JsonObject, FilesMustHoldAnObject) {
  const TemporaryDirectory directory;
  write_json_file(directory / "x.json", {1, 2});
  EXPECT_THAT(message_of<InputError>([&] { (void)JsonObject::from_file(directory / "x.json"); }),
              testing::EndsWith("x.json: is an array; it must be an object"));
}

TEST(JsonObject, HostileValuesAreShownInShort) {
  const std::string text = R"({"key": ")" + std::string(1'000'000, 'x') + R"("})";
  EXPECT_LT(error_of<double>(text).size(), 200U);
  JsonObject object(nlohmann::json{{std::string(1'000'000, 'k'), 1}}, "x.json");
  EXPECT_LT(message_of<InputError>([&] { object.finish(); }).size(), 200U);
}

}  // namespace
}  // namespace flex
