#include "traces/trace_check.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"
#include "costmodel/plan_pair.h"

namespace flex {
namespace {

// A row: whole tokens, each of which takes an expert at most once.
void check_row(std::size_t index, const SparseCounts::Row& row, std::int64_t num_experts,
               std::int64_t top_k) {
  std::int64_t choices = 0;
  std::int32_t last = -1;
  ExpertCount fullest;
  for (const ExpertCount& entry : row.experts) {
    require(entry.expert > last && entry.expert < num_experts,
            "counts[{}]: expert {} comes after {}; experts rise and are below {}", index, entry.expert, last,
            num_experts);
    require(entry.choices >= 1, "counts[{}]: expert {} has {} choices; zeros are left out", index,
            entry.expert, entry.choices);
    last = entry.expert;
    choices += entry.choices;
    if (entry.choices > fullest.choices) fullest = entry;
  }
  require(choices > 0, "counts[{}]: rank {} has no choices; its row is left out", index, row.source);
  require(choices % top_k == 0, "counts[{}]: {} choices of rank {} are no multiple of top_k {}", index,
          choices, row.source, top_k);
  require(fullest.choices <= choices / top_k,
          "counts[{}]: expert {} has {} choices of the {} tokens of rank {}; each takes it at most once",
          index, fullest.expert, fullest.choices, choices / top_k, row.source);
}

}  // namespace

TraceCheck::TraceCheck(const TraceHeader& header) : header_(header), layers_(header.layers.size()) {}

bool TraceCheck::awaits_backward(std::int64_t step, std::int32_t layer) const {
  if (layer < 0 || static_cast<std::size_t>(layer) >= layers_.size()) return false;
  const Layer& one = layers_[static_cast<std::size_t>(layer)];
  return one.forward_step == step && one.backward_step != step;
}

void TraceCheck::check_order(const TraceRecord& record) const {
  require(record.step >= step_, "step: is {} after step {}; steps do not go back", record.step, step_);
  require(record.layer >= 0 && static_cast<std::size_t>(record.layer) < layers_.size(),
          "layer: is {}; the header has layers 0 to {}", record.layer, layers_.size() - 1);
  const Layer& layer = layers_[static_cast<std::size_t>(record.layer)];
  const bool is_forward = record.pass == Pass::kForward;
  require((is_forward ? layer.forward_step : layer.backward_step) != record.step,
          "pass: the {} pass of step {}, layer {} came before", name(record.pass), record.step, record.layer);
  require(is_forward || layer.forward_step == record.step,
          "pass: a backward pass of step {}, layer {} without its forward pass before it", record.step,
          record.layer);
  if (is_forward || !layer.plan || !record.plan) return;
  try {
    check_pair({.forward = *layer.plan, .backward = *record.plan});
  } catch (const InputError& error) {
    fail("plan: {}", error.what());
  }
}

void TraceCheck::check_counts(const TraceRecord& record) const {
  if (record.pass == Pass::kBackward) {
    require(record.counts.empty() && !record.top_k && !record.capacity_factor,
            "pass: counts, top_k and capacity_factor are those of the forward pass; leave them out of a "
            "backward one");
    return;
  }
  const std::int64_t num_experts =
      header_.layers[static_cast<std::size_t>(record.layer)].workload.num_experts;
  const std::int64_t top_k = top_k_of(header_, record);
  require(top_k >= 1 && top_k <= num_experts, "top_k: is {}; it is from 1 to the {} experts", top_k,
          num_experts);
  require(std::isfinite(capacity_factor_of(header_, record)), "capacity_factor: is not finite");
  std::int32_t last = -1;
  for (std::size_t i = 0; i < record.counts.num_rows(); ++i) {
    const SparseCounts::Row row = record.counts.row(i);
    require(row.source > last && row.source < header_.world,
            "counts[{}]: rank {} comes after {}; ranks rise and are below {}", i, row.source, last,
            header_.world);
    last = row.source;
    check_row(i, row, num_experts, top_k);
  }
}

void TraceCheck::add(const TraceRecord& record) {
  check_order(record);
  require(!record.duration_ns || *record.duration_ns >= 0, "duration_ns: is {}; it is zero or more",
          record.duration_ns.value_or(0));
  check_counts(record);
  step_ = record.step;
  Layer& layer = layers_[static_cast<std::size_t>(record.layer)];
  if (record.pass == Pass::kForward) {
    layer.forward_step = record.step;
    layer.plan = record.plan;
  } else {
    layer.backward_step = record.step;
  }
}

}  // namespace flex
