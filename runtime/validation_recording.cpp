#include "runtime/validation_recording.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/atomic_file.h"
#include "base/json_object.h"

namespace flex {
namespace {

using nlohmann::ordered_json;

constexpr int kFormat = 1;

// What all samples of a recording have in common is written once.
constexpr std::array<const char*, 5> kCommonKeys = {"dtype", "world", "ranks_per_node", "device", "source"};
constexpr const char* kSource = "validation";

// Far below what repeats differ by.
double rounded_us(double us) { return std::round(us * 1e1) / 1e1; }

ordered_json short_sample(const CostSample& sample) {
  ordered_json json = ordered_json::parse(to_json_line(sample));
  for (const char* key : kCommonKeys) json.erase(key);
  if (sample.beside == Beside::kNothing) json.erase("algorithm");
  return json;
}

ordered_json to_json(const LayerShape& shape) {
  return {{"tokens", shape.num_tokens},     {"model_dim", shape.model_dim},
          {"hidden_dim", shape.hidden_dim}, {"experts", shape.num_experts},
          {"top_k", shape.top_k},           {"capacity_factor", shape.capacity_factor}};
}

ordered_json to_json(const MeasuredPass& measured) {
  ordered_json json = {{"shape", to_json(measured.pair.shape)},
                       {"plan", to_string(measured.pair.plan)},
                       {"pass", name(measured.pass)},
                       {"median_us", rounded_us(measured.median_us)},
                       {"spread_us", rounded_us(measured.spread_us)}};
  for (const KindTime& kind : measured.kinds) {
    json["kinds_us"][std::string(name(kind.kind))] = rounded_us(kind.us);
  }
  return json;
}

// One value on each line, so that a recording is small and can be compared by lines.
std::string lines_of(const std::vector<ordered_json>& values) {
  std::string text;
  for (const ordered_json& value : values) text += (text.empty() ? "" : ",\n") + value.dump();
  return text;
}

std::string lines_of(std::span<const MeasuredPass> passes) {
  std::vector<ordered_json> values;
  for (const MeasuredPass& measured : passes) values.push_back(to_json(measured));
  return lines_of(values);
}

std::string lines_of(std::span<const CostSample> samples) {
  std::vector<ordered_json> values;
  std::ranges::transform(samples, std::back_inserter(values), short_sample);
  return lines_of(values);
}

LayerShape shape_from(JsonObject json) {
  const JsonRange positive = JsonRange::at_least(1);
  const LayerShape shape{.num_tokens = json.required<std::int64_t>("tokens", positive),
                         .model_dim = json.required<std::int64_t>("model_dim", positive),
                         .hidden_dim = json.required<std::int64_t>("hidden_dim", positive),
                         .num_experts = json.required<std::int64_t>("experts", positive),
                         .top_k = json.required<std::int64_t>("top_k", positive),
                         .capacity_factor = json.required<double>("capacity_factor", JsonRange::above(0))};
  json.finish();
  return shape;
}

Plan plan_from(JsonObject& json) {
  try {
    return parse_plan(json.required<std::string>("plan"));
  } catch (const InputError& error) {
    json.reject("plan", "{}", error.what());
  }
}

MeasuredPass pass_from(JsonObject json) {
  MeasuredPass measured{
      .pair = {.shape = shape_from(json.required<JsonObject>("shape")), .plan = plan_from(json)},
      .pass = json.one_of("pass", {name(Pass::kForward), name(Pass::kBackward)}) == name(Pass::kForward)
                  ? Pass::kForward
                  : Pass::kBackward,
      .median_us = json.required<double>("median_us", JsonRange::above(0)),
      .spread_us = json.required<double>("spread_us", JsonRange::at_least(0))};
  if (auto kinds = json.optional<JsonObject>("kinds_us")) {
    for (const std::string& key : kinds->keys()) {
      const auto kind = parse_operation_kind(key);
      if (!kind) kinds->reject(key, "is no kind of operation");
      measured.kinds.push_back({*kind, kinds->required<double>(key, JsonRange::at_least(0))});
    }
  }
  std::ranges::sort(measured.kinds, {}, &KindTime::kind);
  json.finish();
  return measured;
}

std::vector<MeasuredPass> passes_from(std::vector<JsonObject> list) {
  std::vector<MeasuredPass> passes;
  for (JsonObject& measured : list) passes.push_back(pass_from(std::move(measured)));
  return passes;
}

std::vector<CostSample> samples_from(JsonObject& json, const char* key,
                                     const ValidationRecording& recording) {
  const nlohmann::json common = {{"dtype", name(recording.dtype)},
                                 {"world", recording.world},
                                 {"ranks_per_node", recording.ranks_per_node},
                                 {"device", recording.device},
                                 {"source", kSource}};
  const nlohmann::json& samples = json.raw(key);
  if (!samples.is_array()) json.reject(key, "is no list");
  std::string lines;  // whose reader checks them; line N of a message is the Nth sample
  for (nlohmann::json sample : samples) {
    if (!sample.is_object()) json.reject(key, "holds {}, which is no object", sample.dump());
    sample.update(common);
    lines += sample.dump() + '\n';
  }
  return parse_cost_samples(lines, json.place(key));
}

}  // namespace

void write_validation_recording(const std::filesystem::path& file, const ValidationRecording& recording) {
  const ordered_json head = {{"format", kFormat},
                             {"device", recording.device},
                             {"gpu", recording.is_gpu},
                             {"host_cores", recording.host_cores},
                             {"world", recording.world},
                             {"ranks_per_node", recording.ranks_per_node},
                             {"dtype", name(recording.dtype)},
                             {"seed", recording.seed},
                             {"rounds", recording.rounds}};
  std::string text = head.dump();
  text.pop_back();  // the object goes on
  write_file_atomically(
      file, fmt::format("{},\n\"samples\": [\n{}\n],\n\"calibration_passes\": [\n{}\n],\n\"passes\": "
                        "[\n{}\n],\n\"held_out\": [\n{}\n]}}\n",
                        text, lines_of(recording.samples), lines_of(recording.calibration_passes),
                        lines_of(recording.passes), lines_of(recording.held_out)));
}

ValidationRecording read_validation_recording(const std::filesystem::path& file) {
  JsonObject json = JsonObject::from_file(file);
  const JsonRange positive = JsonRange::at_least(1);
  if (const int format = json.required<int>("format"); format != kFormat) {
    json.reject("format", "is {}; this program reads {}", format, kFormat);
  }
  ValidationRecording recording{.device = json.required<std::string>("device"),
                                .is_gpu = json.optional<bool>("gpu").value_or(false),
                                .host_cores = json.required<int>("host_cores", positive),
                                .world = json.required<int>("world", positive),
                                .ranks_per_node = json.required<int>("ranks_per_node", positive)};
  if (recording.world % recording.ranks_per_node != 0) {
    json.reject("ranks_per_node", "is {}; it must divide the world of {}", recording.ranks_per_node,
                recording.world);
  }
  recording.dtype = parse_dtype(json.one_of("dtype", {name(DType::kF32), name(DType::kF64), name(DType::kF16),
                                                      name(DType::kBF16)}))
                        .value();
  recording.seed = json.required<std::uint64_t>("seed");
  recording.rounds = json.required<int>("rounds", positive);
  recording.samples = samples_from(json, "samples", recording);
  recording.calibration_passes = passes_from(
      json.optional<std::vector<JsonObject>>("calibration_passes").value_or(std::vector<JsonObject>()));
  recording.passes = passes_from(json.required<std::vector<JsonObject>>("passes"));
  if (json.contains("held_out")) recording.held_out = samples_from(json, "held_out", recording);
  json.finish();
  return recording;
}

}  // namespace flex
