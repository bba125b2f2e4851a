#include "profiler/chrome_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/read_file.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

json written(const std::vector<Span>& spans) {
  const TemporaryDirectory directory;
  write_chrome_trace(directory / "trace.json", spans);
  return read_json_file(directory / "trace.json");  // strict: no duplicate keys, nothing after the end
}

std::vector<json> events_of(const json& trace, std::string_view phase, std::string_view name = {}) {
  std::vector<json> found;
  for (const json& event : trace.at("traceEvents")) {
    if (event.at("ph") == phase && (name.empty() || event.at("name") == name)) found.push_back(event);
  }
  return found;
}

// "process name / track name" of a complete event.
std::string place_of(const json& trace, const json& event) {
  std::string process, track;
  for (const json& name : events_of(trace, "M", "process_name")) {
    if (name.at("pid") == event.at("pid")) process = name.at("args").at("name");
  }
  for (const json& name : events_of(trace, "M", "thread_name")) {
    if (name.at("pid") == event.at("pid") && name.at("tid") == event.at("tid")) {
      track = name.at("args").at("name");
    }
  }
  return process + " / " + track;
}

constexpr std::int64_t kMaxBytes = 1 << 20;

const Span kPlain{.name = "encode",
                  .process_group = "simulated",
                  .stream = "compute",
                  .begin_ns = 1'500,
                  .end_ns = 1'234'567};

TEST(ChromeTrace, NothingIsAnEmptyList) {
  EXPECT_EQ(written({}), json::parse(R"({"displayTimeUnit": "ns", "traceEvents": []})"));
}

TEST(ChromeTrace, ASpanIsACompleteEventInMicroseconds) {
  Span span = kPlain;
  span.rank = 3;
  span.iteration = 40;
  span.layer = 0;
  span.pass = 1;
  span.operation = 7;
  span.chunk = 2;
  span.bytes = 4096;
  span.flops = 1.5e12;
  span.origin = "measured";
  const json trace = written({span});
  const std::vector<json> events = events_of(trace, "X");
  ASSERT_EQ(events.size(), 1U);
  const json& event = events[0];
  EXPECT_EQ(event.at("name"), "encode");
  EXPECT_EQ(event.at("cat"), "simulated");
  EXPECT_EQ(event.at("ts"), 1.5);
  EXPECT_EQ(event.at("dur"), 1233.067);
  EXPECT_EQ(event.at("args"),
            json::parse(R"({"iteration": 40, "layer": 0, "pass": 1, "operation": 7, "chunk": 2, "bytes": 4096,
                                              "flops": 1.5e12, "origin": "measured"})"));
  EXPECT_EQ(place_of(trace, event), "simulated rank 3 / compute");
}

TEST(ChromeTrace, WhatDoesNotApplyIsLeftOut) {
  EXPECT_EQ(events_of(written({kPlain}), "X").at(0).at("args"), json::object());
}

TEST(ChromeTrace, TimesKeepNanosecondsFarFromZeroAndBelowIt) {
  Span late = kPlain;
  late.begin_ns = 1'700'000'000'123'456'789;  // since 1970; a double in microseconds would lose digits
  late.end_ns = late.begin_ns + 1;
  Span early = kPlain;
  early.begin_ns = -1'005;
  early.end_ns = 0;
  const TemporaryDirectory directory;
  write_chrome_trace(directory / "trace.json", std::vector{late, early});
  const std::string text = read_file(directory / "trace.json", kMaxBytes);
  EXPECT_THAT(text, ::testing::HasSubstr("\"ts\":1700000000123456.789,\"dur\":0.001,"));
  EXPECT_THAT(text, ::testing::HasSubstr("\"ts\":-1.005,\"dur\":1.005,"));
}

// Fields that the format asks for, and identifiers that viewers do not mix up.
TEST(ChromeTrace, KeepsToTheFormat) {
  std::vector<Span> spans;
  for (const char* group : {"simulated", "measured"}) {
    for (const int rank : {1, 0}) {
      for (const char* stream : {"host", "compute", "communication"}) {
        Span span = kPlain;
        span.process_group = group;
        span.rank = rank;
        span.stream = stream;
        spans.push_back(span);
      }
    }
  }
  const json trace = written(spans);
  std::set<int> tracks;
  std::set<int> processes;
  for (const json& event : trace.at("traceEvents")) {
    EXPECT_TRUE(event.at("name").is_string());
    EXPECT_TRUE(event.at("args").is_object());
    processes.insert(event.at("pid").get<int>());
    if (event.at("ph") == "X") {
      EXPECT_TRUE(event.at("ts").is_number() && event.at("dur").is_number());
      EXPECT_GE(event.at("dur"), 0);
      EXPECT_TRUE(tracks.insert(event.at("tid").get<int>()).second) << "one event for each track here";
    } else {
      EXPECT_EQ(event.at("ph"), "M");
      EXPECT_EQ(event.at("args").size(), 1U);
    }
  }
  EXPECT_EQ(processes, (std::set<int>{1, 2, 3, 4}));
  EXPECT_EQ(tracks.size(), 12U);
  EXPECT_EQ(*tracks.begin(), 5) << "no track has a process's identifier";
  std::map<int, std::string> names;  // by place in the viewer
  for (const json& sort : events_of(trace, "M", "process_sort_index")) {
    for (const json& name : events_of(trace, "M", "process_name")) {
      if (name.at("pid") == sort.at("pid"))
        names[sort.at("args").at("sort_index")] = name.at("args").at("name");
    }
  }
  EXPECT_THAT(names, ElementsAre(std::pair(1, "simulated rank 0"), std::pair(2, "simulated rank 1"),
                                 std::pair(3, "measured rank 0"), std::pair(4, "measured rank 1")));
  std::map<std::string, int> orders;
  for (const json& sort : events_of(trace, "M", "thread_sort_index")) {
    for (const json& name : events_of(trace, "M", "thread_name")) {
      if (name.at("tid") == sort.at("tid"))
        orders[name.at("args").at("name")] = sort.at("args").at("sort_index");
    }
  }
  EXPECT_THAT(orders, UnorderedElementsAre(std::pair("host", 0), std::pair("compute", 1),
                                           std::pair("communication", 2)));
}

// Spans that touch share a track, whatever order they come in; those that overlap do not.
TEST(ChromeTrace, OverlappingSpansGetTracksOfTheirOwn) {
  std::vector<Span> spans(4, kPlain);
  const std::int64_t begins[] = {30, 0, 10, 20};
  const std::int64_t ends[] = {40, 10, 30, 25};
  for (std::size_t i = 0; i < spans.size(); ++i) {
    spans[i].begin_ns = begins[i];
    spans[i].end_ns = ends[i];
  }
  const json trace = written(spans);
  std::vector<std::string> places;
  for (const json& event : events_of(trace, "X")) places.push_back(place_of(trace, event));
  EXPECT_THAT(places, ElementsAre("simulated rank 0 / compute", "simulated rank 0 / compute",
                                  "simulated rank 0 / compute (2)", "simulated rank 0 / compute"));
}

TEST(ChromeTrace, NamesAreEscaped) {
  Span span = kPlain;
  span.name = "a \"quoted\"\nname \\ \xC3\xA9";
  span.process_group = "group \"g\"";
  span.stream = "stream\t1";
  span.origin = "\"";
  const json trace = written({span});
  const json event = events_of(trace, "X").at(0);
  EXPECT_EQ(event.at("name"), span.name);
  EXPECT_EQ(event.at("args").at("origin"), "\"");
  EXPECT_EQ(place_of(trace, event), "group \"g\" rank 0 / stream\t1");
}

TEST(ChromeTrace, RefusesBadSpansAndLeavesTheOldFile) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "trace.json") << "old";
  Span backwards = kPlain;
  backwards.end_ns = backwards.begin_ns - 5;
  EXPECT_EQ(
      message_of<InputError>([&] { write_chrome_trace(directory / "trace.json", std::vector{backwards}); }),
      "trace: encode on rank 0 ends 5 ns before it begins");
  Span broken = kPlain;
  broken.name = "\xFF";
  EXPECT_THAT(
      message_of<InputError>([&] { write_chrome_trace(directory / "trace.json", std::vector{broken}); }),
      ::testing::HasSubstr("is not UTF-8"));
  EXPECT_EQ(read_file(directory / "trace.json", kMaxBytes), "old");
}

}  // namespace
}  // namespace flex
