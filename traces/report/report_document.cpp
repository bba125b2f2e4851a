#include "traces/report/report_document.h"

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
    "a report is made of what `flexmoe replay -o`, `flexmoe tune --json` and `flexmoe simulate --json` write";

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
  return parse_report_document(read_json_file(path), path.string());
}

}  // namespace flex
