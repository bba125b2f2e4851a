#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/json_object.h"
#include "base/nearest_name.h"
#include "base/read_file.h"
#include "costmodel/cost_parameter_fields.h"
#include "costmodel/cost_parameters.h"

namespace flex {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 20;
constexpr const char* kOtherKinds = "other";
constexpr const char* kPassErrors = "pass_relative_error";
constexpr const char* kIssue = "issue_us";

const JsonRange kEfficiency{.min = 0, .max = kMaxEfficiency, .above_min = true};
const JsonRange kNotNegative = JsonRange::at_least(0);
const JsonRange kPositive = JsonRange::above(0);
const JsonRange kFactor = JsonRange::between(1, 100);

/// Reads figures: a number, or one with a source of its own.
class FigureReader {
 public:
  explicit FigureReader(Calibration& calibration) : calibration_(calibration) {}

  [[nodiscard]] double required(JsonObject& json, std::string_view key, const JsonRange& range) {
    std::string source = calibration_.source;
    double value = 0;
    if (json.raw(key).is_object()) {
      auto figure = json.required<JsonObject>(key);
      value = figure.required<double>("value", range);
      source = figure.required_text("source");
      figure.finish();
    } else {
      value = json.required<double>(key, range);
    }
    calibration_.figures.push_back({.key = json.path(key), .value = value, .source = std::move(source)});
    return value;
  }

 private:
  Calibration& calibration_;
};

OperationKind kind_of(const JsonObject& json, const std::string& key) {
  if (const std::optional<OperationKind> kind = parse_operation_kind(key)) return *kind;
  const std::optional<std::string> nearest = nearest_name(key, operation_kind_names());
  json.reject(key, "is no operation{}", nearest ? fmt::format("; did you mean {}?", *nearest) : "");
}

void read_sections(JsonObject& json, FigureReader& figures, CostParameters& parameters) {
  const std::span<const CostParameterField> fields = cost_parameter_fields();
  for (std::size_t i = 0; i < fields.size();) {
    const std::string_view section = fields[i].section;
    auto object = json.required<JsonObject>(section);
    for (; i < fields.size() && fields[i].section == section; ++i) {
      if (fields[i].may_be_absent && !object.contains(fields[i].key)) {
        static_cast<void>(object.optional<double>(fields[i].key));  // finish() knows it
        fields[i].of(parameters) = std::numeric_limits<double>::infinity();
      } else {
        fields[i].of(parameters) = figures.required(object, fields[i].key, fields[i].range);
      }
    }
    if (section == "compute") {
      parameters.compute.tf32_experts = object.required<bool>("tf32_experts");
      parameters.compute.tf32_gate = object.required<bool>("tf32_gate");
    }
    object.finish();
  }
}

void read_errors(JsonObject json, FigureReader& figures, CostParameters& parameters) {
  const double other = figures.required(json, kOtherKinds, kNotNegative);
  parameters.relative_error.fill(other);
  for (const std::string& key : json.keys()) {
    if (key == kOtherKinds) continue;
    parameters.relative_error[static_cast<std::size_t>(kind_of(json, key))] =
        figures.required(json, key, kNotNegative);
  }
}

/// By algorithm; what is left out is 0.
void read_pass_errors(JsonObject json, FigureReader& figures, CostParameters& parameters) {
  for (std::size_t i = 0; i < parameters.pass_relative_error.size(); ++i) {
    const std::string_view key = name(static_cast<AllToAllAlgorithm>(i));
    if (json.contains(key)) {
      parameters.pass_relative_error[i] = figures.required(json, key, kNotNegative);
    } else {
      static_cast<void>(json.optional<double>(key));  // finish() knows it
    }
  }
  json.finish();
}

/// By kind of operation; what is left out is 0.
void read_issue(JsonObject json, FigureReader& figures, CostParameters& parameters) {
  for (const std::string& key : json.keys()) {
    parameters.issue_us[static_cast<std::size_t>(kind_of(json, key))] =
        figures.required(json, key, kNotNegative);
  }
}

void read_kinds(JsonObject json, FigureReader& figures, CostParameters& parameters) {
  for (const std::string& key : json.keys()) {
    const OperationKind kind = kind_of(json, key);
    auto object = json.required<JsonObject>(key);
    const double fixed_us = figures.required(object, "fixed_us", kNotNegative);
    const double time_factor = figures.required(object, "time_factor", kNotNegative);
    object.finish();
    parameters.kinds[static_cast<std::size_t>(kind)] = {.fixed_us = fixed_us, .time_factor = time_factor};
  }
}

/// Writes figures in a calibration's JSON.
class FigureWriter {
 public:
  explicit FigureWriter(const Calibration& calibration) : calibration_(calibration) {}

  [[nodiscard]] nlohmann::ordered_json operator()(const std::string& path, double value) const {
    const auto found = std::ranges::find(calibration_.figures, path, &SourcedFigure::key);
    if (found == calibration_.figures.end() || found->value != value ||
        found->source == calibration_.source) {
      return value;
    }
    return {{"value", value}, {"source", found->source}};
  }

 private:
  const Calibration& calibration_;
};

}  // namespace

std::span<const CostParameterField> cost_parameter_fields() {
  using P = CostParameters;
  static const CostParameterField kFields[] = {
      {"compute", "matrix_efficiency", [](P& p) -> double& { return p.compute.matrix_efficiency; },
       kEfficiency},
      {"compute", "half_efficiency_rows", [](P& p) -> double& { return p.compute.half_efficiency_rows; },
       kNotNegative},
      {"compute", "memory_efficiency", [](P& p) -> double& { return p.compute.memory_efficiency; },
       kEfficiency},
      {"compute", "strided_copy_efficiency",
       [](P& p) -> double& { return p.compute.strided_copy_efficiency; }, kEfficiency},
      {"compute", "launch_us", [](P& p) -> double& { return p.compute.launch_us; }, kNotNegative},
      {"intra_node", "bandwidth_efficiency",
       [](P& p) -> double& { return p.intra_node.bandwidth_efficiency; }, kEfficiency},
      {"intra_node", "message_us", [](P& p) -> double& { return p.intra_node.message_us; }, kNotNegative},
      {"intra_node", "collective_us", [](P& p) -> double& { return p.intra_node.collective_us; },
       kNotNegative},
      {"intra_node", "contention_peers", [](P& p) -> double& { return p.intra_node.contention_peers; },
       kPositive, true},
      {"intra_node", "contention_exponent", [](P& p) -> double& { return p.intra_node.contention_exponent; },
       kPositive},
      {"inter_node", "bandwidth_efficiency",
       [](P& p) -> double& { return p.inter_node.bandwidth_efficiency; }, kEfficiency},
      {"inter_node", "message_us", [](P& p) -> double& { return p.inter_node.message_us; }, kNotNegative},
      {"inter_node", "collective_us", [](P& p) -> double& { return p.inter_node.collective_us; },
       kNotNegative},
      {"inter_node", "contention_peers", [](P& p) -> double& { return p.inter_node.contention_peers; },
       kPositive, true},
      {"inter_node", "contention_exponent", [](P& p) -> double& { return p.inter_node.contention_exponent; },
       kPositive},
      {"host", "synchronize_us", [](P& p) -> double& { return p.host_synchronize_us; }, kNotNegative},
      {"memory", "base_GiB", [](P& p) -> double& { return p.base_memory_GiB; }, kNotNegative},
      {"overlap_linear", "compute_factor", [](P& p) -> double& { return p.linear.compute; }, kFactor},
      {"overlap_linear", "communication_factor", [](P& p) -> double& { return p.linear.communication; },
       kFactor},
      {"overlap_2dh", "compute_factor", [](P& p) -> double& { return p.hierarchical.compute; }, kFactor},
      {"overlap_2dh", "communication_factor", [](P& p) -> double& { return p.hierarchical.communication; },
       kFactor},
  };
  return kFields;
}

std::string pass_error_key(AllToAllAlgorithm algorithm) {
  return fmt::format("{}.{}", kPassErrors, name(algorithm));
}

Calibration parse_calibration(std::string_view text, const std::string& where) {
  JsonObject json(parse_json(text, where), where);
  Calibration calibration;
  calibration.cluster = json.required_text("cluster");
  calibration.description = json.required_text("description");
  calibration.fitted = json.required<bool>("fitted");
  calibration.source = json.required_text("source");
  FigureReader figures(calibration);
  read_sections(json, figures, calibration.parameters);
  read_errors(json.required<JsonObject>("relative_error"), figures, calibration.parameters);
  if (auto errors = json.optional<JsonObject>(kPassErrors)) {
    read_pass_errors(*std::move(errors), figures, calibration.parameters);
  }
  if (auto issue = json.optional<JsonObject>(kIssue)) {
    read_issue(*std::move(issue), figures, calibration.parameters);
  }
  if (auto kinds = json.optional<JsonObject>("kinds")) {
    read_kinds(*std::move(kinds), figures, calibration.parameters);
  }
  json.finish();
  return calibration;
}

Calibration read_calibration_file(const std::filesystem::path& path) {
  return parse_calibration(read_file(path, kMaxFileBytes), path.string());
}

nlohmann::ordered_json to_json(const Calibration& calibration) {
  const FigureWriter figure(calibration);
  const CostParameters& p = calibration.parameters;
  nlohmann::ordered_json json{{"cluster", calibration.cluster},
                              {"description", calibration.description},
                              {"fitted", calibration.fitted},
                              {"source", calibration.source}};
  for (const CostParameterField& field : cost_parameter_fields()) {
    const double value = field.get(p);
    if (field.may_be_absent && std::isinf(value)) continue;
    json[field.section][field.key] = figure(field.path(), value);
  }
  json["compute"]["tf32_experts"] = p.compute.tf32_experts;
  json["compute"]["tf32_gate"] = p.compute.tf32_gate;
  json["relative_error"][kOtherKinds] = figure("relative_error.other", CostParameters::kUnknownError);
  for (int i = 0; i < kNumOperationKinds; ++i) {
    const auto kind = static_cast<OperationKind>(i);
    const std::string key(name(kind));
    if (p.error_of(kind) != CostParameters::kUnknownError) {
      json["relative_error"][key] = figure("relative_error." + key, p.error_of(kind));
    }
    if (const double issue_us = p.issue_us[static_cast<std::size_t>(i)]; issue_us != 0) {
      json[kIssue][key] = figure(fmt::format("{}.{}", kIssue, key), issue_us);
    }
    if (const std::optional<KindParameters>& own = p.of(kind)) {
      json["kinds"][key] = {{"fixed_us", figure("kinds." + key + ".fixed_us", own->fixed_us)},
                            {"time_factor", figure("kinds." + key + ".time_factor", own->time_factor)}};
    }
  }
  if (p.pass_relative_error != CostParameters{}.pass_relative_error) {
    for (int i = 0; i < kNumAllToAllAlgorithms; ++i) {
      const auto algorithm = static_cast<AllToAllAlgorithm>(i);
      json[kPassErrors][std::string(name(algorithm))] =
          figure(pass_error_key(algorithm), p.pass_error(algorithm));
    }
  }
  return json;
}

void write_calibration_file(const std::filesystem::path& path, const Calibration& calibration) {
  write_file_atomically(path, to_json(calibration).dump(2) + "\n");
}

}  // namespace flex
