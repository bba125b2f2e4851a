#include <fmt/format.h>

#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/require.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/trace_commands.h"
#include "cli/trace_table.h"

// flexmoe trace generate|import|reshard|inspect FILE|check FILE...|cut FILE
// Routing traces; docs/trace-format.md says what is in them.
namespace flex::cli {

Range parse_range(const std::string& option, const std::string& text) {
  const auto bound = [&](std::string_view digits) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    require(error == std::errc{} && end == digits.data() + digits.size() && value >= 0,
            "{} is '{}'; it looks like 3..9, 3.., ..9 or 3", option, text);
    return value;
  };
  Range range;
  if (text.empty()) return range;
  const std::string_view all = text;
  const std::size_t dots = all.find("..");
  if (dots == std::string_view::npos) return {.first = bound(all), .last = bound(all)};
  const std::string_view last = all.substr(dots + 2);
  if (dots > 0) range.first = bound(all.substr(0, dots));
  if (!last.empty() || dots == 0) range.last = bound(last);
  require(range.first <= range.last, "{} is '{}'; the first is not above the last", option, text);
  return range;
}

void add_output_option(CLI::App& command, std::string& output) {
  command.add_option("-o,--output", output, "The trace to write; packed if the name ends in .gz")
      ->required()
      ->type_name("FILE");
}

void warn_of_damage(const TraceReader& reader) {
  if (reader.damage()) {
    log_warning("{}; only the {} record(s) before it are used", *reader.damage(), reader.num_records());
  }
}

void finish_output(TraceOutput& output, const std::string& file, std::int64_t num_dropped) {
  const TraceTrailer trailer = output.close(num_dropped);
  fmt::print("{}: {} record(s) of {} layer(s) and {} rank(s)\n", file, trailer.num_records,
             output.header().layers.size(), output.header().world);
}

namespace {

void inspect(const std::string& file, bool json) {
  TraceReader reader(file, TraceDamage::kStop);
  const TraceSummary summary = summarize(reader);
  warn_of_damage(reader);
  json ? fmt::print("{}\n", summary_json(reader, summary).dump(2))
       : fmt::print("{}", summary_text(file, reader, summary));
}

struct CheckOptions {
  std::vector<std::string> files;
  bool json = false;
};

// All files, each up to its first mistake.
void check(const CheckOptions& options, Outcome& outcome) {
  constexpr int kBadInput = 2;
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const std::string& file : options.files) {
    try {
      TraceReader reader(file, TraceDamage::kThrow);
      TraceRecord record;
      while (reader.next(record)) {
      }
      const std::int64_t num_dropped = reader.trailer()->num_dropped;
      rows.push_back(
          {{"file", file}, {"ok", true}, {"records", reader.num_records()}, {"dropped", num_dropped}});
      if (!options.json) {
        fmt::print("{}: ok, {} record(s), {} dropped while recording\n", file, reader.num_records(),
                   num_dropped);
      }
    } catch (const InputError& error) {
      rows.push_back({{"file", file}, {"ok", false}, {"error", error.what()}});
      if (!options.json) fmt::print(stderr, "flexmoe: {}\n", error.what());
      outcome.exit_code = kBadInput;
    }
  }
  if (options.json) fmt::print("{}\n", rows.dump(2));
}

struct CutOptions {
  std::string file;
  std::string output;
  std::string steps;
  std::string layers;
};

void cut(const CutOptions& options) {
  const Range steps = parse_range("--steps", options.steps);
  const Range layers = parse_range("--layers", options.layers);
  TraceReader reader(options.file, TraceDamage::kStop);
  TraceOutput output(open_atomic(options.output), reader.header());
  TraceRecord record;
  const Interrupt interrupt;
  while (reader.next(record)) {
    Interrupt::throw_if_requested();
    if (steps.holds(record.step) && layers.holds(record.layer)) output.add(record);
  }
  warn_of_damage(reader);
  finish_output(output, options.output, reader.trailer() ? reader.trailer()->num_dropped : 0);
}

void add_inspect(CLI::App& trace) {
  CLI::App* command = trace.add_subcommand("inspect", "What a trace holds, layer by layer");
  auto file = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("file", *file, "A trace")->required()->type_name("FILE");
  command->add_flag("--json", *json, "Print JSON");
  command->footer(
      "Example:\n  flexmoe trace inspect run.jsonl.gz\nA file that is cut off is read up to its last whole "
      "record.");
  command->callback([file, json] { inspect(*file, *json); });
}

void add_check(CLI::App& trace, Outcome& outcome) {
  CLI::App* command =
      trace.add_subcommand("check", "Read traces whole; exit code 2 if one is damaged, cut off or wrong");
  auto options = std::make_shared<CheckOptions>();
  command->add_option("files", options->files, "Traces")->required()->type_name("FILE");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer("Example:\n  flexmoe trace check run.jsonl.gz other.jsonl");
  command->callback([options, &outcome] { check(*options, outcome); });
}

void add_cut(CLI::App& trace) {
  CLI::App* command = trace.add_subcommand("cut", "Take some steps and layers out of a trace");
  auto options = std::make_shared<CutOptions>();
  command->add_option("file", options->file, "A trace")->required()->type_name("FILE");
  command->add_option("--steps", options->steps, "FIRST..LAST, both included; either may be left out (all)")
      ->type_name("RANGE");
  command->add_option("--layers", options->layers, "The same (all); layers keep their numbers")
      ->type_name("RANGE");
  add_output_option(*command, options->output);
  command->footer(
      "Example:\n  flexmoe trace cut run.jsonl.gz --steps 1000..1999 --layers 0..3 -o part.jsonl.gz");
  command->callback([options] { cut(*options); });
}

}  // namespace

void add_trace(CLI::App& app, Outcome& outcome) {
  CLI::App* command =
      app.add_subcommand("trace", "Routing traces: generate, import, re-shard, look at, check and cut them");
  command->require_subcommand(1);
  add_trace_making(*command);
  add_inspect(*command);
  add_check(*command, outcome);
  add_cut(*command);
}

}  // namespace flex::cli
