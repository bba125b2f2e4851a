#include "costmodel/cost_sample.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/json_object.h"
#include "base/nearest_name.h"
#include "base/read_file.h"

namespace flex {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{256} << 20;
constexpr double kMaxRanks = 1 << 20;

/// Sizes by their keys, in the order of the format.
struct SizeField {
  const char* key;
  std::int64_t CostSample::*of;
};
constexpr SizeField kSizes[] = {
    {"batch", &CostSample::batch},     {"rows", &CostSample::rows},
    {"columns", &CostSample::columns}, {"model_dim", &CostSample::model_dim},
    {"peers", &CostSample::peers},     {"bytes_per_peer", &CostSample::bytes_per_peer},
    {"bytes", &CostSample::bytes}};

OperationKind read_kind(JsonObject& json) {
  const auto text = json.required<std::string>("op");
  if (const std::optional<OperationKind> kind = parse_operation_kind(text)) return *kind;
  const std::optional<std::string> nearest = nearest_name(text, operation_kind_names());
  json.reject("op", "{} is no operation{}", quote_name(text),
              nearest ? fmt::format("; did you mean {}?", *nearest) : "");
}

CostSample read_sample(JsonObject json) {
  CostSample sample;
  sample.kind = read_kind(json);
  sample.dtype = *parse_dtype(json.one_of("dtype", {"fp64", "fp32", "fp16", "bf16"}));
  const JsonRange size = JsonRange::at_least(0);
  for (const SizeField& field : kSizes) {
    sample.*field.of = json.optional<std::int64_t>(field.key, size).value_or(0);
  }
  sample.flops = json.optional<double>("flops", size).value_or(0);
  const JsonRange ranks = JsonRange::between(1, kMaxRanks);
  sample.num_chunks = json.optional<std::int64_t>("num_chunks", JsonRange::at_least(1)).value_or(1);
  sample.world = json.optional<int>("world", ranks).value_or(1);
  sample.ranks_per_node = json.optional<int>("ranks_per_node", ranks).value_or(1);
  if (const auto beside = json.optional_one_of("beside", {"nothing", "compute", "communication"})) {
    sample.beside = *beside == "compute"         ? Beside::kCompute
                    : *beside == "communication" ? Beside::kCommunication
                                                 : Beside::kNothing;
  }
  if (const auto algorithm = json.optional_one_of("algorithm", {"linear", "2dh"})) {
    sample.algorithm =
        *algorithm == "linear" ? AllToAllAlgorithm::kLinear : AllToAllAlgorithm::kHierarchical2d;
  }
  sample.duration_ns = json.required<std::int64_t>("duration_ns", size);
  sample.beside_ns = json.optional<std::int64_t>("beside_ns", size).value_or(0);
  if (sample.beside_ns > sample.duration_ns || (sample.beside_ns > 0 && sample.beside == Beside::kNothing)) {
    json.reject("beside_ns", "is {}; it is at most duration_ns, and needs `beside`", sample.beside_ns);
  }
  sample.issue_ns = json.optional<std::int64_t>("issue_ns", size).value_or(0);
  sample.device = json.required<std::string>("device");
  sample.source = json.required<std::string>("source");
  json.finish();
  return sample;
}

}  // namespace

std::string_view name(Beside beside) {
  switch (beside) {
    case Beside::kNothing:
      return "nothing";
    case Beside::kCompute:
      return "compute";
    case Beside::kCommunication:
      return "communication";
  }
  return "?";
}

CostSample sample_of(const Schedule& schedule, const Operation& operation, std::int64_t duration_ns,
                     int ranks_per_node) {
  const OperationSize& size = operation.size;
  return {.kind = operation.kind,
          .dtype = schedule.workload.dtype,
          .batch = size.batch,
          .rows = size.rows,
          .columns = size.columns,
          .model_dim = schedule.workload.model_dim,
          .peers = size.peers,
          .bytes_per_peer = size.bytes_per_peer,
          .bytes = size.bytes,
          .flops = size.flops,
          .num_chunks = operation.num_chunks,
          .world = schedule.workload.world,
          .ranks_per_node = ranks_per_node,
          .algorithm = schedule.plan.all_to_all,
          .duration_ns = duration_ns};
}

std::string to_json_line(const CostSample& sample) {
  nlohmann::ordered_json json{{"op", name(sample.kind)}, {"dtype", name(sample.dtype)}};
  for (const SizeField& field : kSizes) {
    if (sample.*field.of != 0) json[field.key] = sample.*field.of;
  }
  if (sample.flops != 0) json["flops"] = sample.flops;
  if (sample.num_chunks != 1) json["num_chunks"] = sample.num_chunks;
  json["world"] = sample.world;
  json["ranks_per_node"] = sample.ranks_per_node;
  if (sample.beside != Beside::kNothing) json["beside"] = name(sample.beside);
  json["algorithm"] = name(sample.algorithm);
  json["duration_ns"] = sample.duration_ns;
  if (sample.beside_ns != 0) json["beside_ns"] = sample.beside_ns;
  if (sample.issue_ns != 0) json["issue_ns"] = sample.issue_ns;
  json["device"] = sample.device;
  json["source"] = sample.source;
  return json.dump();
}

std::vector<CostSample> parse_cost_samples(std::string_view text, const std::string& file) {
  std::vector<CostSample> samples;
  for (int line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", file, line);
    samples.push_back(read_sample(JsonObject(parse_json(one, where), where)));
  }
  return samples;
}

std::vector<CostSample> read_cost_samples(const std::filesystem::path& file) {
  return parse_cost_samples(read_file(file, kMaxFileBytes), file.string());
}

void write_cost_samples(const std::filesystem::path& file, std::span<const CostSample> samples) {
  AtomicFile out(file);
  for (const CostSample& sample : samples) out.write(to_json_line(sample) + "\n");
  out.commit();
}

}  // namespace flex
