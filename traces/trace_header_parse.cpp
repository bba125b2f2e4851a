#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
#include "costmodel/workload_json.h"
#include "traces/trace_parse.h"
#include "traces/trace_text.h"

namespace flex {
namespace {

TraceOrigin read_origin(JsonObject json) {
  TraceOrigin origin;
  const std::string source = json.one_of("source", {"recorded", "generated", "imported", "resharded"});
  for (const TraceSource one :
       {TraceSource::kRecorded, TraceSource::kGenerated, TraceSource::kImported, TraceSource::kResharded}) {
    if (source == name(one)) origin.source = one;
  }
  origin.workload = json.optional<std::string>("workload").value_or("");
  origin.policy = json.optional<std::string>("policy").value_or("");
  origin.file = json.optional<std::string>("file").value_or("");
  origin.world = json.optional<std::int64_t>("world", JsonRange::between(1, double{kMaxTraceWorld}));
  origin.seed = json.optional<std::uint64_t>("seed");
  json.finish();
  return origin;
}

// As often as it says.
void read_layers(JsonObject json, TraceHeader& header) {
  const auto count =
      json.optional<std::int64_t>("count", JsonRange::between(1, double{kMaxTraceLayers})).value_or(1);
  TraceLayer layer;
  Workload& w = layer.workload;
  w.world = header.world;
  w.num_experts = json.required<std::int64_t>("num_experts", JsonRange::between(1, double{kMaxTraceExperts}));
  w.num_tokens = json.required<std::int64_t>("num_tokens", JsonRange::between(0, double{kMaxTraceCount}));
  layer.capacity_factor = json.required<double>("capacity_factor");
  w.dropless = layer.capacity_factor <= 0;
  read_layer_fields(json, w);
  json.finish();
  header.layers.insert(header.layers.end(), static_cast<std::size_t>(count), layer);
  if (static_cast<std::int64_t>(header.layers.size()) > kMaxTraceLayers) {
    json.reject("", "more than {} layers", kMaxTraceLayers);
  }
}

// What it is, before what it says: another format or version would only have keys that are unknown here.
void check_format(JsonObject& json) {
  constexpr std::string_view kWhat = "the first line of a routing trace is its header";
  if (!json.contains("format")) json.reject("format", "is missing; {}", kWhat);
  if (json.raw("format") != kTraceFormat) {
    json.reject("format", "is not \"{}\"; {}", kTraceFormat, kWhat);
  }
  const auto version = json.required<std::int64_t>("version", JsonRange::at_least(1));
  if (version != kTraceVersion) {
    json.reject("version", "is {}; this program reads version {}{}", version, kTraceVersion,
                version > kTraceVersion ? ": a newer one wrote the file" : "");
  }
}

}  // namespace

TraceHeader parse_trace_header(const TraceLine& line) {
  TraceLine rest = line;
  std::string text;
  if (remove_checksum(rest)) {
    text = std::string(rest.text) + "}";
  } else {
    text = line.text;
  }
  const std::string where = fmt::format("{}:{}", line.file, line.number);
  JsonObject json(parse_json(text, line.file), where);  // a header is line 1, so that its place is right
  check_format(json);
  TraceHeader header;
  for (const JsonObject& origin : json.required<std::vector<JsonObject>>("origins")) {
    header.origins.push_back(read_origin(origin));
  }
  header.model = json.required<std::string>("model");
  header.hardware = json.optional<std::string>("hardware").value_or("");
  header.world = json.required<int>("world", JsonRange::between(1, double{kMaxTraceWorld}));
  header.ranks_per_node = json.required<int>("ranks_per_node", JsonRange::between(1, double{kMaxTraceWorld}));
  for (const JsonObject& layer : json.required<std::vector<JsonObject>>("layers")) read_layers(layer, header);
  json.finish();
  try {
    validate(header);
  } catch (const InputError& error) {
    fail("{}: {}", where, error.what());
  }
  return header;
}

}  // namespace flex
