#include "traces/report/report_document.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "base/json.h"

namespace flex {
namespace {

// Writers say `null` where there is nothing; JsonObject has no value for it. Points of a series that are null
// stay.
void remove_null_members(nlohmann::json& value) {
  if (value.is_object()) {
    for (auto member = value.begin(); member != value.end();) {
      if (member->is_null()) {
        member = value.erase(member);
      } else {
        remove_null_members(*member);
        ++member;
      }
    }
  } else if (value.is_array()) {
    for (nlohmann::json& entry : value) remove_null_members(entry);
  }
}

constexpr const char* kMakers =
    "a report is made of what `flexmoe replay -o`, `flexmoe tune --json` and `flexmoe simulate --json` "
    "write, "
    "and of the metrics (.jsonl) of `flexmoe train`";

ReportDocument read_training_document(const std::filesystem::path& path) {
  TrainingMetrics metrics = read_metrics(path);
  require(!metrics.steps.empty() || !metrics.evaluations.empty(), "{}: holds no metrics yet", path.string());
  return {path.string(), TrainingDocument{.runs = {{path.string(), std::move(metrics)}}}};
}

}  // namespace

ReportDocument parse_report_document(nlohmann::json value, const std::string& where) {
  remove_null_members(value);
  JsonObject document(std::move(value), where);
  if (document.contains("flexmoe")) {
    const auto kind = document.required<std::string>("flexmoe");
    if (kind != "replay") document.reject("flexmoe", "is {}; {}", quote_name(kind), kMakers);
    return {where, parse_replay_document(std::move(document))};
  }
  if (document.contains("layers") && document.contains("on")) {
    return {where, parse_tune_document(std::move(document))};
  }
  if (document.contains("sizes") && document.contains("cluster")) {
    return {where, parse_simulate_document(std::move(document))};
  }
  fail("{}: an unknown document; {}", where, kMakers);
}

ReportDocument read_report_document(const std::filesystem::path& path) {
  if (path.extension() == ".jsonl") return read_training_document(path);
  return parse_report_document(read_json_file(path), path.string());
}

std::vector<ReportDocument> join_training_runs(std::vector<ReportDocument> documents) {
  std::vector<ReportDocument> joined;
  std::optional<std::size_t> first;
  for (ReportDocument& document : documents) {
    auto* training = std::get_if<TrainingDocument>(&document.content);
    if (training == nullptr || !first) {
      if (training != nullptr) first = joined.size();
      joined.push_back(std::move(document));
      continue;
    }
    auto& runs = std::get<TrainingDocument>(joined[*first].content).runs;
    std::ranges::move(training->runs, std::back_inserter(runs));
    joined[*first].file += ", " + document.file;
  }
  return joined;
}

}  // namespace flex
