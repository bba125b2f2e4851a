#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "tests/base/temporary_directory.h"
#include "tests/traces/cases.h"
#include "traces/trace_writer.h"

/// How fast routing traces are read, written and recorded. bytes_per_second: of plain text. The floors of
/// reading are read() alone, and read() with a search for the ends of lines.
namespace flex {
namespace {

constexpr int kWorld = 64;
constexpr std::int64_t kExperts = 128;
constexpr std::int64_t kTokens = 4096;

TraceHeader bench_header() {
  TraceHeader header = testing::small_header();
  header.world = kWorld;
  header.ranks_per_node = 8;
  header.layers.resize(1);
  header.layers[0].workload = {.world = kWorld,
                               .num_experts = kExperts,
                               .num_tokens = kTokens,
                               .top_k = 2,
                               .model_dim = 1024,
                               .hidden_dim = 4096};
  return header;
}

// Random routing, all pairs used but for few.
TraceRecord bench_record() {
  PhiloxStream random(1);
  TraceRecord record{.plan = kDefaultPlan, .duration_ns = 1'234'567};
  for (std::int32_t source = 0; source < kWorld; ++source) {
    testing::add_random_row(source, kTokens, kExperts, 2, random, record.counts);
  }
  return record;
}

/// Files of the same trace of about 50 MB, written once.
struct BenchFiles {
  TemporaryDirectory directory;
  std::int64_t bytes = 0;

  BenchFiles() {
    constexpr std::int64_t kSteps = 2000;
    TraceRecord record = bench_record();
    for (const char* name : {"bench.jsonl", "bench.jsonl.gz"}) {
      TraceOutput output(open_growing(path(name)), bench_header());
      for (record.step = 0; record.step < kSteps; ++record.step) output.add(record);
      output.close();
    }
    bytes = static_cast<std::int64_t>(std::filesystem::file_size(path("bench.jsonl")));
  }
  [[nodiscard]] std::filesystem::path path(const char* name) const { return directory / name; }
};

const BenchFiles& files() {
  static const BenchFiles all;
  return all;
}

void read_file(benchmark::State& state, bool find_lines) {
  std::vector<char> block(std::size_t{1} << 16);
  const std::filesystem::path path = files().path("bench.jsonl");
  for (auto _ : state) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::int64_t num_lines = 0;
    for (ssize_t count = 1; count > 0;) {
      count = ::read(file.get(), block.data(), block.size());
      const char* at = block.data();
      const char* const end = at + std::max<ssize_t>(count, 0);
      while (find_lines && (at = static_cast<const char*>(
                                std::memchr(at, '\n', static_cast<std::size_t>(end - at)))) != nullptr) {
        ++num_lines;
        ++at;
      }
    }
    benchmark::DoNotOptimize(num_lines);
  }
  state.SetBytesProcessed(state.iterations() * files().bytes);
}
BENCHMARK_CAPTURE(read_file, read_only, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(read_file, lines_only, true)->Unit(benchmark::kMillisecond);

void read_trace(benchmark::State& state, const char* name) {
  std::int64_t num_records = 0;
  const std::filesystem::path path = files().path(name);
  for (auto _ : state) {
    TraceReader reader(path);
    TraceRecord record;
    while (reader.next(record)) benchmark::DoNotOptimize(record);
    num_records = reader.num_records();
  }
  state.SetBytesProcessed(state.iterations() * files().bytes);
  state.SetItemsProcessed(state.iterations() * num_records);
}
BENCHMARK_CAPTURE(read_trace, plain, "bench.jsonl")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(read_trace, gzip, "bench.jsonl.gz")->Unit(benchmark::kMillisecond);

void write_trace(benchmark::State& state) {
  const TraceRecord record = bench_record();
  std::string text;
  std::int64_t bytes = 0;
  TraceRecord next = record;
  for (auto _ : state) {
    text.clear();
    TraceOutput output(std::make_unique<testing::TextSink>(text), bench_header());
    for (next.step = 0; next.step < 100; ++next.step) output.add(next);
    output.close();
    bytes += static_cast<std::int64_t>(text.size());
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(write_trace)->Unit(benchmark::kMillisecond);

// What the recording thread of a run pays for one record, a millisecond after the last one: filling it with
// counts that it has (64 KiB), and handing it over.
void record(benchmark::State& state) {
  const TemporaryDirectory directory;
  TraceWriter writer(directory / "run.jsonl", bench_header());
  const TraceRecord filled = bench_record();
  TraceRecord next;
  std::int64_t step = 0;
  std::vector<double> fill_us;
  std::vector<double> hand_over_us;
  const auto us_since = [](std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  };
  for (auto _ : state) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto begin = std::chrono::steady_clock::now();
    next.step = step++;
    next.plan = filled.plan;
    next.duration_ns = filled.duration_ns;
    next.counts = filled.counts;
    fill_us.push_back(us_since(begin));
    const auto is_filled = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(writer.record(next));
    hand_over_us.push_back(us_since(is_filled));
    state.SetIterationTime(1e-6 * (fill_us.back() + hand_over_us.back()));
  }
  std::ranges::sort(fill_us);
  std::ranges::sort(hand_over_us);
  state.counters["fill_median_us"] = fill_us[fill_us.size() / 2];
  state.counters["hand_over_median_us"] = hand_over_us[hand_over_us.size() / 2];
  state.counters["hand_over_99th_percentile_us"] = hand_over_us[hand_over_us.size() * 99 / 100];
  state.counters["dropped"] = static_cast<double>(writer.num_dropped());
  writer.close();
}
BENCHMARK(record)->Unit(benchmark::kMicrosecond)->UseManualTime()->Iterations(2000);

}  // namespace
}  // namespace flex

BENCHMARK_MAIN();
