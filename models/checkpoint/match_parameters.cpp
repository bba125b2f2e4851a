#include "models/checkpoint/match_parameters.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "base/json.h"
#include "base/require.h"

namespace flex {
namespace {

std::vector<std::int64_t> without_ones(std::vector<std::int64_t> extents) {
  std::erase(extents, 1);
  return extents;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// `3 tensors are missing (a, b, c)`.
std::string finding(const std::vector<std::string>& items, std::string_view what) {
  constexpr std::size_t kNamed = 3;
  const std::size_t named = std::min(items.size(), kNamed);
  std::string text =
      fmt::format("{} {} ({}", items.size(), what, fmt::join(std::span(items).first(named), ", "));
  if (items.size() > named) text += fmt::format(" and {} more", items.size() - named);
  return text + ")";
}

// One comparison. Every mistake is noted, none thrown, until all have been found.
class ParameterMatch {
 public:
  ParameterMatch(const ParameterFiles& files, const ModelConfig& config, const LoadOptions& options)
      : files_(files), config_(config), options_(options), to_(naming_of(config.block)) {
    const ParameterNaming from = naming_of(files.names());
    for (const StoredTensor& tensor : files.tensors()) {
      const std::string name = is_buffer(tensor.name) ? tensor.name : renamed(tensor.name, from, to_);
      // Two names of one parameter, as a file of two conventions would have.
      if (!by_name_.emplace(name, &tensor).second) extra_.push_back(tensor.name);
    }
  }

  std::vector<MatchedParameter> run(const ModelParameters& parameters) {
    std::vector<MatchedParameter> matched;
    std::set<std::string> wanted;
    for (const ModelParameter& parameter : parameters.all()) {
      wanted.insert(parameter.spec.name);
      const auto found = by_name_.find(parameter.spec.name);
      if (found == by_name_.end()) {
        missing_.push_back(parameter.spec.name);
      } else {
        matched.push_back({&parameter, fits(parameter, *found->second) ? found->second : nullptr});
      }
    }
    for (const auto& [name, tensor] : by_name_) {
      if (is_buffer(name)) {
        check_buffer(*tensor);
      } else if (!wanted.contains(name)) {
        extra_.push_back(tensor->name);
      }
    }
    refuse();
    return matched;
  }

 private:
  // False for a head that is to stay as it is.
  bool fits(const ModelParameter& parameter, const StoredTensor& tensor) {
    const std::string& name = parameter.spec.name;
    if (!floating_dtype(tensor.dtype)) {
      unfit_.push_back(fmt::format("{} holds {}", tensor.name, name_of(tensor.dtype)));
      return true;
    }
    const std::vector<std::int64_t> expected = extents_of(parameter.spec.shape);
    if (without_ones(tensor.shape) == without_ones(expected)) return true;
    const bool is_head = name.starts_with(head_prefix(config_.block));
    if (is_head && options_.keeps_head && tensor.shape.size() == expected.size() &&
        std::equal(tensor.shape.begin() + 1, tensor.shape.end(), expected.begin() + 1))
      return false;
    unfit_.push_back(
        fmt::format("{} is {}, expected {}", tensor.name, shape_text(tensor.shape), shape_text(expected)));
    return true;
  }

  // Buffers belong to the file's window, which may be another than the model's, but go together.
  void check_buffer(const StoredTensor& tensor) {
    const std::string& name = tensor.name;
    if (name.ends_with(kNumExpertsBuffer)) {
      if (tensor.num_elements() != 1)
        unfit_.push_back(fmt::format("{} is {}, expected []", name, shape_text(tensor.shape)));
      return;
    }
    const std::string prefix = name.substr(0, name.find(".attn"));
    const StoredTensor* table = files_.find(prefix + std::string(kCoordinatesBuffer));
    const StoredTensor* index = files_.find(prefix + std::string(kIndexBuffer));
    const std::vector<std::int64_t>& shape = tensor.shape;
    std::vector<std::int64_t> expected;
    if (&tensor == table) {
      const std::int64_t side = shape.size() == 4 ? shape[1] | 1 : 1;
      expected = {1, side, side, 2};
    } else {
      std::int64_t area = shape.empty() ? 0 : shape.back();
      if (table != nullptr && table->shape.size() == 4) {
        area = (table->shape[1] / 2 + 1) * (table->shape[1] / 2 + 1);
      } else if (index != nullptr && !index->shape.empty()) {
        area = index->shape.back();
      }
      expected = {area, area};
      if (&tensor != index) expected.insert(expected.begin(), shape.empty() ? 1 : shape.front());
    }
    if (shape != expected)
      unfit_.push_back(fmt::format("{} is {}, expected {}", name, shape_text(shape), shape_text(expected)));
  }

  void refuse() const {
    std::vector<std::string> findings;
    if (!files_.names().empty() && block_of(files_.names()) != config_.block) {
      findings.push_back(fmt::format("it is a {} model, expected {}", flex::name(block_of(files_.names())),
                                     flex::name(config_.block)));
    }
    if (!missing_.empty()) findings.push_back(finding(missing_, "tensors are missing"));
    if (!extra_.empty()) findings.push_back(finding(extra_, "are not the model's"));
    if (!unfit_.empty()) findings.push_back(finding(unfit_, "have another shape or type"));
    require(findings.empty(), "{}: does not fit the model {}: {}", files_.path().string(),
            quote_name(config_.name), fmt::join(findings, "; "));
    const auto windows = files_.position_windows();
    for (std::int64_t stage = 0; windows && stage < ModelConfig::kNumStages; ++stage) {
      const std::int64_t trained = (*windows)[static_cast<std::size_t>(stage)];
      require(
          trained == position_window(config_, stage),
          "{}: the position bias of stage {} was trained with a window of {}, and the model's is of {}; set "
          "pretrained_windows to [{}]",
          files_.path().string(), stage, trained, position_window(config_, stage), fmt::join(*windows, ", "));
    }
  }

  const ParameterFiles& files_;
  const ModelConfig& config_;
  const LoadOptions& options_;
  ParameterNaming to_;
  std::map<std::string, const StoredTensor*> by_name_;  // by the model's names
  std::vector<std::string> missing_;
  std::vector<std::string> extra_;
  std::vector<std::string> unfit_;
};

}  // namespace

std::vector<MatchedParameter> match_parameters(const ParameterFiles& files, const ModelConfig& config,
                                               const ModelParameters& parameters,
                                               const LoadOptions& options) {
  return ParameterMatch(files, config, options).run(parameters);
}

}  // namespace flex
