#include "tuner/policy.h"

#include <optional>
#include <vector>

#include "base/json.h"
#include "base/nearest_name.h"
#include "base/require.h"
#include "tuner/dictionary_policy.h"
#include "tuner/online_policy.h"
#include "tuner/plain_policies.h"

namespace flex {
namespace {

constexpr std::string_view kStaticPrefix = "static:";

PlanPair parse_pair(std::string_view text) {
  const std::size_t slash = text.find('/');
  const Plan forward = parse_plan(text.substr(0, slash));
  const PlanPair plans{forward, slash == text.npos ? forward : parse_plan(text.substr(slash + 1))};
  check_pair(plans);
  return plans;
}

}  // namespace

std::string_view name(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::kStatic:
      return "static";
    case PolicyKind::kDictionary:
      return "dictionary";
    case PolicyKind::kModel:
      return "model";
    case PolicyKind::kOnline:
      return "online";
    case PolicyKind::kOracle:
      return "oracle";
  }
  return "?";
}

PolicySpec parse_policy(std::string_view text) {
  if (text.starts_with(kStaticPrefix)) {
    return {.kind = PolicyKind::kStatic, .plans = parse_pair(text.substr(kStaticPrefix.size()))};
  }
  require(text != name(PolicyKind::kStatic),
          "policy 'static' needs a plan, as in 'static:r1 d2 2dh', or one for each pass, as in 'static:r1 d2 "
          "2dh/r1 d4 linear'");
  std::vector<std::string> names = {"static:PLAN"};
  for (const PolicyKind kind : kPolicyKinds) {
    if (kind == PolicyKind::kStatic) continue;
    if (text == name(kind)) return {.kind = kind};
    names.emplace_back(name(kind));
  }
  const std::optional<std::string> nearest = nearest_name(text, names);
  fail("{} is no policy; use {}{}", quote_name(text), fmt::join(names, ", "),
       nearest ? fmt::format(" (did you mean {}?)", *nearest) : "");
}

std::string to_string(const PolicySpec& spec) {
  if (spec.kind != PolicyKind::kStatic) return std::string(name(spec.kind));
  const auto& [forward, backward] = spec.plans;
  const std::string text = fmt::format("{}{}", kStaticPrefix, to_string(forward));
  return forward == backward ? text : fmt::format("{}/{}", text, to_string(backward));
}

std::unique_ptr<PlanPolicy> make_policy(const PolicySpec& spec, PolicyContext context) {
  switch (spec.kind) {
    case PolicyKind::kStatic:
      return std::make_unique<StaticPolicy>(spec.plans, std::move(context));
    case PolicyKind::kDictionary:
      return std::make_unique<DictionaryPolicy>(std::move(context));
    case PolicyKind::kModel:
      return std::make_unique<ModelPolicy>(std::move(context));
    case PolicyKind::kOnline:
      return std::make_unique<OnlinePolicy>(std::move(context));
    case PolicyKind::kOracle:
      return std::make_unique<OraclePolicy>(std::move(context));
  }
  fail("policy {} is unknown", static_cast<int>(spec.kind));
}

}  // namespace flex
