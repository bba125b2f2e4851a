#include "tuner/recorded_sweep.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/json_object.h"
#include "base/read_file.h"

namespace flex {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{256} << 20;

/// Members of a workload by their keys, in the order of the struct.
struct SizeField {
  const char* key;
  std::int64_t Workload::*of;
};
constexpr SizeField kSizes[] = {
    {"num_experts", &Workload::num_experts}, {"num_tokens", &Workload::num_tokens},
    {"capacity", &Workload::capacity},       {"top_k", &Workload::top_k},
    {"model_dim", &Workload::model_dim},     {"hidden_dim", &Workload::hidden_dim}};

struct FlagField {
  const char* key;
  bool Workload::*of;
};
constexpr FlagField kFlags[] = {{"fc1_bias", &Workload::fc1_bias},
                                {"fc2_bias", &Workload::fc2_bias},
                                {"train_fc2_bias", &Workload::train_fc2_bias},
                                {"is_postscore", &Workload::is_postscore},
                                {"gate_noise", &Workload::gate_noise},
                                {"gate_loss", &Workload::gate_loss},
                                {"global_loss_scope", &Workload::global_loss_scope},
                                {"dropless", &Workload::dropless},
                                {"agree_on_tokens", &Workload::agree_on_tokens},
                                {"regather_weights", &Workload::regather_weights}};

nlohmann::ordered_json to_json(const Workload& workload) {
  const Workload usual;
  nlohmann::ordered_json json{{"world", workload.world}};
  for (const SizeField& field : kSizes) json[field.key] = workload.*field.of;
  json["dtype"] = name(workload.dtype);
  if (workload.ffn != usual.ffn) json["ffn"] = name(workload.ffn);
  if (workload.gate != usual.gate) json["gate"] = name(workload.gate);
  if (workload.projection_dim != usual.projection_dim) json["projection_dim"] = workload.projection_dim;
  for (const FlagField& field : kFlags) {
    if (workload.*field.of != usual.*field.of) json[field.key] = workload.*field.of;
  }
  return json;
}

Workload read_workload(JsonObject json) {
  constexpr double kMaxRanks = 1 << 20;
  const JsonRange size = JsonRange::at_least(0);
  Workload workload;
  workload.world = json.required<int>("world", JsonRange::between(1, kMaxRanks));
  for (const SizeField& field : kSizes) workload.*field.of = json.required<std::int64_t>(field.key, size);
  workload.dtype = *parse_dtype(json.one_of("dtype", {"fp64", "fp32", "fp16", "bf16"}));
  if (const auto ffn = json.optional_one_of("ffn", {"standard", "gated"})) {
    workload.ffn = *parse_ffn_kind(*ffn);
  }
  if (const auto gate = json.optional_one_of("gate", {"linear", "cosine"})) {
    workload.gate = *gate == name(GateKind::kLinear) ? GateKind::kLinear : GateKind::kCosine;
  }
  workload.projection_dim =
      json.optional<std::int64_t>("projection_dim", size).value_or(workload.projection_dim);
  for (const FlagField& field : kFlags) {
    workload.*field.of = json.optional<bool>(field.key).value_or(workload.*field.of);
  }
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
