#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/safetensors_writer.h"
#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// Files that other programs read: each is held against its format's description, or read by somebody else.
namespace flex {
namespace {

using nlohmann::json;

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

bool has_python() {
  return std::system("python3 -c 'import json, struct' >/dev/null 2>&1") == 0;  // NOLINT(cert-env33-c)
}

/// What a script of Python prints; `arguments` are its own.
std::string python(const std::string& script, const std::string& arguments) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "script.py") << script;
  const std::string command = "python3 " + (directory / "script.py").string() + " " + arguments + " >" +
                              (directory / "out").string() + " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_all(directory / "out");  // NOLINT(cert-env33-c)
  return read_all(directory / "out");
}

using Track = std::pair<std::int64_t, std::int64_t>;  ///< pid, tid

struct Timeline {
  std::map<std::int64_t, std::string> processes;
  std::map<Track, std::string> threads;
  std::map<Track, std::vector<std::pair<double, double>>> events;  ///< begin and end, us
};

// The fields that the Trace Event Format asks for of each phase; metadata names are a closed list.
void add_event(const json& event, Timeline& timeline) {
  ASSERT_TRUE(event.at("name").is_string()) << event;
  ASSERT_TRUE(event.at("pid").is_number_integer()) << event;
  const std::string phase = event.at("ph");
  const std::int64_t process = event.at("pid");
  const std::int64_t thread = event.value("tid", std::int64_t{0});
  if (phase == "X") {
    ASSERT_TRUE(event.at("tid").is_number_integer()) << event;
    ASSERT_TRUE(event.at("ts").is_number() && event.at("dur").is_number()) << event;
    ASSERT_TRUE(event.at("cat").is_string() && event.value("args", json::object()).is_object()) << event;
    const double begin = event.at("ts");
    const double duration = event.at("dur");
    EXPECT_GE(duration, 0);
    timeline.events[{process, thread}].emplace_back(begin, begin + duration);
    return;
  }
  ASSERT_EQ(phase, "M") << "the program writes complete and metadata events: " << event;
  const std::string name = event.at("name");
  const json& arguments = event.at("args");
  if (name == "process_name") {
    EXPECT_TRUE(timeline.processes.emplace(process, arguments.at("name")).second) << "named twice";
  } else if (name == "thread_name") {
    EXPECT_TRUE(timeline.threads.emplace(Track{process, thread}, arguments.at("name")).second);
  } else {
    EXPECT_TRUE(name == "process_sort_index" || name == "thread_sort_index") << name;
    EXPECT_TRUE(arguments.at("sort_index").is_number_integer());
  }
}

TEST(Interchange, TimelinesKeepToTheTraceEventFormat) {
  const TemporaryDirectory directory;
  const Result result = flexmoe("simulate --nodes 2 --experts 16 --plan 'r1 d4 2dh' --layers 2 --timeline " +
                                (directory / "t.json").string());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json trace = read_json(directory / "t.json");
  EXPECT_TRUE(trace.at("displayTimeUnit") == "ns" || trace.at("displayTimeUnit") == "ms");
  Timeline timeline;
  for (const json& event : trace.at("traceEvents")) add_event(event, timeline);
  EXPECT_GE(timeline.events.size(), 2U) << "computation and communication";
  std::size_t num_events = 0;
  for (auto& [track, events] : timeline.events) {
    EXPECT_TRUE(timeline.processes.contains(track.first)) << "process " << track.first << " has no name";
    EXPECT_TRUE(timeline.threads.contains(track)) << "track " << track.second << " has no name";
    num_events += events.size();
    std::ranges::sort(events);
    for (std::size_t i = 1; i < events.size();
         ++i) {  // of one track: one after the other, or one in the other
      const bool apart = events[i].first >= events[i - 1].second - 1e-3;
      EXPECT_TRUE(apart || events[i].second <= events[i - 1].second + 1e-3) << "events overlap";
    }
  }
  EXPECT_GE(num_events, 20U);
}

/// Types of the keys that the schema of T4 knows, and those that must be there.
/// @source results-schema.json 1.0.0 of Kernel Tuner (github.com/KernelTuner/kernel_tuner)
void check_t4_result(const json& result) {
  ASSERT_TRUE(result.at("configuration").is_object()) << result;
  ASSERT_TRUE(result.at("correctness").is_number()) << result;
  const std::set<std::string> invalidities = {"timeout",     "compile",     "runtime",
                                              "correctness", "constraints", "correct"};
  EXPECT_TRUE(invalidities.contains(result.at("invalidity").get<std::string>())) << result;
  EXPECT_TRUE(result.value("timestamp", json("")).is_string());
  EXPECT_TRUE(result.value("objectives", json::array()).is_array());
  for (const auto& [name, value] : result.at("times").items()) {
    EXPECT_TRUE(name == "runtimes" ? value.is_array() : value.is_number()) << name;
  }
  for (const json& measurement : result.value("measurements", json::array())) {
    EXPECT_TRUE(measurement.at("name").is_string() && measurement.at("unit").is_string()) << measurement;
    EXPECT_TRUE(measurement.at("value").is_number()) << measurement;
  }
}

TEST(Interchange, ExportedTrialsKeepToT4) {
  const TemporaryDirectory directory;
  const std::string cache = " --cache " + (directory / "tuning.db").string();
  ASSERT_EQ(flexmoe("tune --cluster dgx_h100 --nodes 1 --experts 8 --max-evaluations 6" + cache).exit_code,
            0);
  ASSERT_EQ(flexmoe("cache export " + (directory / "t4.json").string() + cache).exit_code, 0);
  const json document = read_json(directory / "t4.json");
  EXPECT_THAT(document.at("schema_version").get<std::string>(),
              ::testing::MatchesRegex("[0-9]+.[0-9]+.[0-9]+"));
  ASSERT_GE(document.at("results").size(), 2U);
  for (const json& result : document.at("results")) check_t4_result(result);
}

// Written from the format's description alone: eight bytes of length, JSON, data.
constexpr const char* kReadTensors = R"(
import json, struct, sys
data = open(sys.argv[1], 'rb').read()
length = struct.unpack('<Q', data[:8])[0]
header = json.loads(data[8:8 + length])
print(header.pop('__metadata__'))
end = 0
for name, tensor in sorted(header.items(), key=lambda item: item[1]['data_offsets']):
    begin, stop = tensor['data_offsets']
    assert begin == end, 'a hole'
    end = stop
    code = {'F32': 'f', 'I64': 'q', 'F64': 'd'}[tensor['dtype']]
    values = struct.unpack('<%d%s' % ((stop - begin) // struct.calcsize(code), code), data[8 + length + begin:8 + length + stop])
    print(name, tensor['shape'], list(values))
assert end == len(data) - 8 - length, 'bytes left'
)";

constexpr const char* kReadTensorsWithTheReference = R"(
import sys
try:
    from safetensors import safe_open
except ImportError:
    print('absent')
    sys.exit()
with safe_open(sys.argv[1], framework='numpy') as file:
    print({name: file.get_tensor(name).tolist() for name in sorted(file.keys())})
)";

TEST(Interchange, TensorsAreReadByOthers) {
  if (!has_python()) GTEST_SKIP() << "no python3 here";
  const TemporaryDirectory directory;
  const std::vector<float> floats = {1.5F, -2.0F, 0.25F, 4.0F};
  const std::vector<std::int64_t> integers = {-7};
  const std::vector<double> none;
  SafetensorsWriter writer;
  writer.add<float>("weight", std::vector<std::int64_t>{2, 2}, floats);
  writer.add<std::int64_t>("step", std::vector<std::int64_t>{}, integers);
  writer.add<double>("empty", std::vector<std::int64_t>{0, 3}, none);
  writer.set_metadata("made by", "a test");
  writer.write(directory / "t.safetensors");
  const std::string path = (directory / "t.safetensors").string();
  EXPECT_EQ(python(kReadTensors, path),
            "{'made by': 'a test'}\nempty [0, 3] []\nstep [] [-7]\nweight [2, 2] [1.5, -2.0, 0.25, 4.0]\n");
  const std::string reference = python(kReadTensorsWithTheReference, path);
  if (reference == "absent\n") return;
  EXPECT_EQ(reference, "{'empty': [], 'step': -7, 'weight': [[1.5, -2.0], [0.25, 4.0]]}\n");
}

constexpr const char* kReadLines = R"(
import gzip, json, sys
name = sys.argv[1]
with (gzip.open if name.endswith('.gz') else open)(name, 'rt') as file:
    lines = [json.loads(line) for line in file]
print(len(lines), lines[0]['world'], sum(line.get('pass') == 'forward' for line in lines), lines[-1]['records'])
)";

TEST(Interchange, TracesAreJsonLines) {
  if (!has_python()) GTEST_SKIP() << "no python3 here";
  const TemporaryDirectory directory;
  for (const std::string name : {"t.jsonl", "t.jsonl.gz"}) {
    const std::string path = (directory / name).string();
    ASSERT_EQ(flexmoe("trace generate --ranks 4 --experts 4 --layers 2 --steps 3 -o " + path).exit_code, 0);
    EXPECT_EQ(python(kReadLines, path), "14 4 6 12\n") << "header, 3 steps of 2 layers and passes, trailer";
  }
}

}  // namespace
}  // namespace flex
