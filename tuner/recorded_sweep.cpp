#include "tuner/recorded_sweep.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/json_object.h"
#include "base/read_file.h"
#include "costmodel/workload_json.h"

namespace flex {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{256} << 20;

/// Sizes of one pass by their keys, in the order of the struct.
struct SizeField {
  const char* key;
  std::int64_t Workload::*of;
};
constexpr SizeField kSizes[] = {{"num_experts", &Workload::num_experts},
                                {"num_tokens", &Workload::num_tokens},
                                {"capacity", &Workload::capacity}};

nlohmann::ordered_json to_json(const Workload& workload) {
  nlohmann::ordered_json json{{"world", workload.world}};
  for (const SizeField& field : kSizes) json[field.key] = workload.*field.of;
  write_layer_fields(workload, json);
  if (workload.dropless) json["dropless"] = true;
  return json;
}

Workload read_workload(JsonObject json) {
  constexpr double kMaxRanks = 1 << 20;
  Workload workload;
  workload.world = json.required<int>("world", JsonRange::between(1, kMaxRanks));
  for (const SizeField& field : kSizes) {
    workload.*field.of = json.required<std::int64_t>(field.key, JsonRange::at_least(0));
  }
  read_layer_fields(json, workload);
  workload.dropless = json.optional<bool>("dropless").value_or(workload.dropless);
  json.finish();
  try {
    validate(workload);
  } catch (const InputError& error) {
    json.reject("", "{}", error.what());
  }
  return workload;
}

RecordedPass read_pass(JsonObject json) {
  RecordedPass pass{.workload = read_workload(json.required<JsonObject>("workload"))};
  try {
    pass.plan = parse_plan(json.required<std::string>("plan"));
  } catch (const InputError& error) {
    json.reject("plan", "{}", error.what());
  }
  pass.workload.pass =
      json.one_of("pass", {"forward", "backward"}) == name(Pass::kForward) ? Pass::kForward : Pass::kBackward;
  pass.why_not = json.optional<std::string>("why_not").value_or("");
  pass.samples_ns = json.optional<std::vector<std::int64_t>>("samples_ns", JsonRange::at_least(1))
                        .value_or(pass.samples_ns);
  if (pass.samples_ns.empty() == pass.why_not.empty()) {
    json.reject("samples_ns", "a pass has either samples or a reason in `why_not`");
  }
  json.finish();
  return pass;
}

}  // namespace

std::vector<RecordedPass> recorded(const Workload& workload, std::span<const EvaluatedPlan> evaluations) {
  std::vector<RecordedPass> passes;
  for (const EvaluatedPlan& one : evaluations) {
    passes.push_back({.workload = workload,
                      .plan = one.plan,
                      .samples_ns = one.evaluation.samples_ns,
                      .why_not = one.evaluation.why_not});
    passes.back().workload.pass = one.pass;
  }
  return passes;
}

std::string to_json_line(const RecordedPass& pass) {
  nlohmann::ordered_json json{{"workload", to_json(pass.workload)},
                              {"plan", to_string(pass.plan)},
                              {"pass", name(pass.workload.pass)}};
  if (pass.why_not.empty()) {
    json["samples_ns"] = pass.samples_ns;
  } else {
    json["why_not"] = pass.why_not;
  }
  return json.dump();
}

std::vector<RecordedPass> parse_sweep(std::string_view text, const std::string& file) {
  std::vector<RecordedPass> passes;
  for (int line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", file, line);
    passes.push_back(read_pass(JsonObject(parse_json(one, where), where)));
  }
  return passes;
}

std::vector<RecordedPass> read_sweep(const std::filesystem::path& file) {
  return parse_sweep(read_file(file, kMaxFileBytes), file.string());
}

void write_sweep(const std::filesystem::path& file, std::span<const RecordedPass> passes) {
  AtomicFile out(file);
  for (const RecordedPass& pass : passes) out.write(to_json_line(pass) + "\n");
  out.commit();
}

}  // namespace flex
