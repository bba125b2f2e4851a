#include "costmodel/plan.h"

#include <algorithm>
#include <charconv>

#include "base/philox.h"
#include "base/require.h"

namespace flex {
namespace {

std::optional<std::int32_t> parse_degree(std::string_view digits) {
  std::int32_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool whole = error == std::errc{} && end == digits.data() + digits.size();
  if (!whole || digits.front() == '-') return std::nullopt;
  return value;
}

// The field that `part` sets ('r', 'd', 'a' or 'k'), which is then set; nothing for an unknown part.
std::optional<char> parse_part(std::string_view part, Plan& plan) {
  for (const auto algorithm : {AllToAllAlgorithm::kLinear, AllToAllAlgorithm::kHierarchical2d}) {
    if (part == name(algorithm)) {
      plan.all_to_all = algorithm;
      return 'a';
    }
  }
  for (const auto kernel : {ExpertKernel::kPadded, ExpertKernel::kCounted}) {
    if (part == name(kernel)) {
      plan.expert_kernel = kernel;
      return 'k';
    }
  }
  if (part.size() < 2 || (part[0] != 'r' && part[0] != 'd')) return std::nullopt;
  const std::optional<std::int32_t> degree = parse_degree(part.substr(1));
  if (!degree || (part[0] == 'd' && *degree == 0)) return std::nullopt;
  (part[0] == 'r' ? plan.parallel_degree : plan.pipeline_degree) = *degree;
  return part[0];
}

}  // namespace

std::string_view name(AllToAllAlgorithm algorithm) {
  return algorithm == AllToAllAlgorithm::kLinear ? "linear" : "2dh";
}

std::string_view name(ExpertKernel kernel) { return kernel == ExpertKernel::kPadded ? "padded" : "counted"; }

std::string to_string(const Plan& plan) {
  return fmt::format("r{} d{} {}{}", plan.parallel_degree, plan.pipeline_degree, name(plan.all_to_all),
                     plan.expert_kernel == ExpertKernel::kCounted ? " counted" : "");
}

Plan parse_plan(std::string_view text) {
  Plan plan;
  std::string given;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) {
      const std::string_view part = text.substr(begin, end - begin);
      const std::optional<char> field = parse_part(part, plan);
      require(field.has_value(),
              "plan '{}': '{}' is unknown; a plan looks like 'r2 d4 2dh' (r 0 or more, d 1 or more, linear "
              "or 2dh)",
              text, part);
      require(given.find(*field) == std::string::npos,
              "plan '{}': '{}' sets again what is set; a plan looks like 'r2 d4 2dh'", text, part);
      given += *field;
    }
    begin = end + 1;
  }
  require(!given.empty(), "plan '{}' is empty; a plan looks like 'r2 d4 2dh'", text);
  return plan;
}

std::uint64_t stable_hash(const Plan& plan) {
  return splitmix64(static_cast<std::uint64_t>(plan.parallel_degree) << 32U |
                    static_cast<std::uint64_t>(plan.pipeline_degree) << 8U |
                    static_cast<std::uint64_t>(plan.expert_kernel) << 4U |
                    static_cast<std::uint64_t>(plan.all_to_all));
}

}  // namespace flex
