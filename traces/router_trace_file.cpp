#include "traces/router_trace_file.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "base/json.h"
#include "base/json_object.h"
#include "base/require.h"
#include "traces/routing_trace.h"

namespace flex {
namespace {

// A name or a number.
std::string read_block(JsonObject& json) {
  const nlohmann::json& block = json.raw("block");
  if (block.is_string()) return block.get<std::string>();
  if (!block.is_number_integer()) json.reject("block", "is neither a string nor an integer");
  return block.dump();
}

}  // namespace

std::string to_string(const RouterLayerName& name) {
  return fmt::format("block {}, layer {}", quote_name(name.block), name.layer);
}

RouterTraceFile::RouterTraceFile(const std::filesystem::path& path, std::int64_t num_experts)
    : lines_(open_text_source(path), path.string()),
      num_experts_(num_experts),
      choices_(static_cast<std::size_t>(num_experts)) {
  ahead_ = read_pass();
  require(ahead_.has_value(), "{}: is empty; a router trace has a line for each step and layer", file());
  rank_ = ahead_->rank;
}

std::optional<RouterPass> RouterTraceFile::read_pass() {
  const std::optional<TraceLine> line = lines_.next();
  if (!line) return std::nullopt;
  const std::string where = fmt::format("{}:{}", line->file, line->number);
  // Fields that are not named here are nobody's business: other versions of the tracer may have more.
  JsonObject json(parse_json(line->text, where), where);
  const JsonRange at_least_0 = JsonRange::at_least(0);
  RouterPass pass{
      .step = json.required<std::int64_t>("step", at_least_0),
      .rank =
          json.required<std::int64_t>("rank", JsonRange::between(0, static_cast<double>(kMaxTraceWorld - 1))),
      .layer = {.block = read_block(json), .layer = json.required<std::int64_t>("layer", at_least_0)},
      .num_tokens = json.required<std::int64_t>("num_tokens", at_least_0),
      .top_k = json.required<std::int64_t>("topk", JsonRange::between(1, static_cast<double>(num_experts_))),
      .line = line->number};
  pass.counts = read_counts(json, pass);
  if (pass.rank != rank_.value_or(pass.rank)) {
    json.reject("rank", "is {}; the lines before are of rank {}, and a file holds one rank", pass.rank,
                *rank_);
  }
  return pass;
}

std::vector<ExpertCount> RouterTraceFile::read_counts(JsonObject& json, const RouterPass& pass) {
  const auto indices = json.required<std::vector<std::vector<std::int64_t>>>("top_indices");
  if (static_cast<std::int64_t>(indices.size()) != pass.num_tokens) {
    json.reject("top_indices", "has {} tokens; num_tokens is {}", indices.size(), pass.num_tokens);
  }
  const std::string place = json.place("top_indices");
  std::ranges::fill(choices_, 0);
  for (std::size_t token = 0; token < indices.size(); ++token) {
    const std::vector<std::int64_t>& experts = indices[token];
    require(static_cast<std::int64_t>(experts.size()) == pass.top_k, "{}[{}]: has {} experts; topk is {}",
            place, token, experts.size(), pass.top_k);
    for (std::size_t j = 0; j < experts.size(); ++j) {
      const std::int64_t expert = experts[j];
      require(expert >= 0 && expert < num_experts_, "{}[{}][{}]: is {}; the experts are 0 to {}", place,
              token, j, expert, num_experts_ - 1);
      const auto earlier = std::span(experts).first(j);
      require(std::ranges::find(earlier, expert) == earlier.end(),
              "{}[{}][{}]: is {} for the second time; a token takes an expert once", place, token, j, expert);
      ++choices_[static_cast<std::size_t>(expert)];
    }
  }
  std::vector<ExpertCount> counts;
  for (std::size_t e = 0; e < choices_.size(); ++e) {
    if (choices_[e] > 0) counts.push_back({static_cast<std::int32_t>(e), choices_[e]});
  }
  return counts;
}

std::vector<RouterPass> RouterTraceFile::next_step() {
  std::vector<RouterPass> passes;
  if (!ahead_) return passes;
  const std::int64_t step = ahead_->step;
  while (ahead_ && ahead_->step == step) {
    for (const RouterPass& earlier : passes) {
      require(earlier.layer != ahead_->layer, "{}:{}: {} of step {} came before, in line {}", file(),
              ahead_->line, to_string(ahead_->layer), step, earlier.line);
    }
    passes.push_back(*std::move(ahead_));
    ahead_ = read_pass();
  }
  require(!ahead_ || ahead_->step > step, "{}:{}: step: is {} after step {}; steps do not go back", file(),
          ahead_ ? ahead_->line : 0, ahead_ ? ahead_->step : 0, step);
  return passes;
}

}  // namespace flex
