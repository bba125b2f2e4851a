#include "traces/trace_text.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <nlohmann/json.hpp>

#include "costmodel/workload_json.h"

namespace flex {
namespace {

// Turns `{...}`, which begins at `begin`, into a whole line.
void seal(std::size_t begin, std::string& text) {
  text.pop_back();  // the brace
  const std::uint32_t checksum = trace_checksum(std::string_view(text).substr(begin));
  fmt::format_to(std::back_inserter(text), "{}{:08x}\"}}\n", kChecksumMember, checksum);
}

nlohmann::ordered_json to_json(const TraceOrigin& origin) {
  nlohmann::ordered_json json{{"source", name(origin.source)}};
  if (!origin.workload.empty()) json["workload"] = origin.workload;
  if (!origin.policy.empty()) json["policy"] = origin.policy;
  if (!origin.file.empty()) json["file"] = origin.file;
  if (origin.world) json["world"] = *origin.world;
  if (origin.seed) json["seed"] = *origin.seed;
  return json;
}

nlohmann::ordered_json to_json(const TraceLayer& layer, std::int64_t count) {
  nlohmann::ordered_json json;
  if (count > 1) json["count"] = count;
  json["num_experts"] = layer.workload.num_experts;
  json["num_tokens"] = layer.workload.num_tokens;
  json["capacity_factor"] = layer.capacity_factor;
  write_layer_fields(layer.workload, json);
  return json;
}

// A number of the hot part of a record.
void append_number(std::int64_t value, std::string& text) {
  char digits[24];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), value).ptr;
  text.append(std::begin(digits), end);
}

void append_row(const SparseCounts::Row& row, std::string& text) {
  text += '[';
  append_number(row.source, text);
  std::int32_t next = 0;  // the expert that a count would be of
  for (const ExpertCount& entry : row.experts) {
    if (entry.expert != next) {
      text += ',';
      append_number(next - entry.expert, text);
    }
    text += ',';
    append_number(entry.choices, text);
    next = entry.expert + 1;
  }
  text += ']';
}

void append_counts(const SparseCounts& counts, std::string& text) {
  std::int64_t needed_capacity = 0;
  for (std::size_t i = 0; i < counts.num_rows(); ++i) {
    for (const ExpertCount& entry : counts.row(i).experts) {
      needed_capacity = std::max<std::int64_t>(needed_capacity, entry.choices);
    }
  }
  fmt::format_to(std::back_inserter(text), R"(,"needed_capacity":{},"counts":[)", needed_capacity);
  for (std::size_t i = 0; i < counts.num_rows(); ++i) {
    if (i > 0) text += ',';
    append_row(counts.row(i), text);
  }
  text += ']';
}

}  // namespace

std::uint32_t trace_checksum(std::string_view text) {
  return static_cast<std::uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(text.data()), text.size()));
}

void append_header_line(const TraceHeader& header, std::string& text) {
  nlohmann::ordered_json json{{"format", kTraceFormat}, {"version", kTraceVersion}};
  for (const TraceOrigin& origin : header.origins) json["origins"].push_back(to_json(origin));
  json["model"] = header.model;
  if (!header.hardware.empty()) json["hardware"] = header.hardware;
  json["world"] = header.world;
  json["ranks_per_node"] = header.ranks_per_node;
  for (std::size_t begin = 0; begin < header.layers.size();) {
    std::size_t end = begin + 1;
    while (end < header.layers.size() && header.layers[end] == header.layers[begin]) ++end;
    json["layers"].push_back(to_json(header.layers[begin], static_cast<std::int64_t>(end - begin)));
    begin = end;
  }
  const std::size_t begin = text.size();
  text += json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  seal(begin, text);
}

void append_record_line(const TraceRecord& record, std::string& text) {
  const std::size_t begin = text.size();
  const auto out = std::back_inserter(text);
  fmt::format_to(out, R"({{"step":{},"layer":{},"pass":"{}")", record.step, record.layer, name(record.pass));
  if (record.plan) fmt::format_to(out, R"(,"plan":"{}")", to_string(*record.plan));
  if (record.duration_ns) fmt::format_to(out, R"(,"duration_ns":{})", *record.duration_ns);
  if (record.top_k) fmt::format_to(out, R"(,"top_k":{})", *record.top_k);
  if (record.capacity_factor) fmt::format_to(out, R"(,"capacity_factor":{})", *record.capacity_factor);
  if (record.pass == Pass::kForward) append_counts(record.counts, text);
  text += '}';
  seal(begin, text);
}

void append_trailer_line(const TraceTrailer& trailer, std::string& text) {
  const std::size_t begin = text.size();
  fmt::format_to(std::back_inserter(text), R"({{"records":{},"dropped":{}}})", trailer.num_records,
                 trailer.num_dropped);
  seal(begin, text);
}

}  // namespace flex
