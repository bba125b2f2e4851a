#include "runtime/measured_operations.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "costmodel/accuracy.h"

namespace flex {
namespace {

constexpr std::int32_t kBackwardPass = 2;  // of a record: route, forward experts, backward experts

double mean(double sum, std::size_t count) { return sum / static_cast<double>(count); }
std::int64_t to_ns(double us) { return std::llround(us * 1e3); }

}  // namespace

void SamplePool::add(const CostSample& sample, double us, double beside_us, double issue_us) {
  Entry& entry = entries_[to_json_line(sample)];
  entry.sample = sample;
  entry.us.push_back(us);
  entry.beside_us += beside_us;
  entry.issue_us += issue_us;
}

std::vector<CostSample> SamplePool::samples() const {
  std::vector<CostSample> samples;
  for (const auto& [line, entry] : entries_) {
    const std::size_t count = entry.us.size();
    const bool alone = entry.sample.beside == Beside::kNothing;
    const double us =
        alone ? median(entry.us) : mean(std::accumulate(entry.us.begin(), entry.us.end(), 0.0), count);
    CostSample& sample = samples.emplace_back(entry.sample);
    sample.duration_ns = to_ns(us);
    sample.beside_ns = std::min(to_ns(mean(entry.beside_us, count)), sample.duration_ns);
    sample.issue_ns = to_ns(mean(entry.issue_us, count));
  }
  return samples;
}

void MeasuredOperations::list(const PassRecord& record) {
  for (const RecordedOperation& recorded : record.operations) {
    CostSample sample =
        sample_of(layer_->schedule(recorded.pass), recorded.operation, 0, context_->cluster().ranks_per_node);
    sample.algorithm = AllToAllAlgorithm::kLinear;  // of no matter to what runs alone, so alike for all plans
    sample.device = settings_.device;
    sample.source = settings_.source;
    operations_.push_back({.sample = std::move(sample),
                           .stream = recorded.operation.stream,
                           .pass = recorded.pass == kBackwardPass ? Pass::kBackward : Pass::kForward});
  }
}

void MeasuredOperations::measure_alone_blocking() {
  const PassRecord record = gather_record(layer_->record_blocking(plans_, PassOrder::kOneByOne), *context_,
                                          settings_.ranks_per_device);
  if (operations_.empty()) list(record);
  const std::vector<OperationDuration> durations = durations_of(record);
  for (std::size_t i = 0; i < durations.size(); ++i) operations_[i].alone_us.push_back(durations[i].us);
  if (context_->device().is_cuda()) measure_issue_blocking();
}

void MeasuredOperations::measure_planned_blocking() {
  const PassRecord record = gather_record(layer_->record_blocking(plans_, PassOrder::kAsPlanned), *context_,
                                          settings_.ranks_per_device);
  const std::vector<OperationDuration> durations = durations_of(record);
  for (std::size_t i = 0; i < durations.size(); ++i) {
    operations_[i].planned_us.push_back(durations[i].us);
    operations_[i].overlap_us.push_back(durations[i].overlap_us);
  }
}

void MeasuredOperations::measure_issue_blocking() {
  const std::span<const std::int64_t> mine = layer_->issue_blocking(plans_);
  const auto world = static_cast<std::size_t>(context_->size());
  std::vector<std::int64_t> all(mine.size() * world);
  context_->control().gather_host_blocking(mine, all);
  for (std::size_t i = 0; i < operations_.size(); ++i) {
    double sum_ns = 0;
    for (std::size_t rank = 0; rank < world; ++rank) {
      sum_ns += static_cast<double>(all[rank * operations_.size() + i]);
    }
    operations_[i].issue_us.push_back(mean(sum_ns, world) * 1e-3);
  }
}

void MeasuredOperations::add_samples_to(SamplePool& pool) const {
  constexpr double kLeastOverlap = 0.1;  // below it the error of the whole duration is all that is seen
  for (const Rounds& rounds : operations_) {
    pool.add(rounds.sample, median(rounds.alone_us), 0,
             rounds.issue_us.empty() ? 0 : median(rounds.issue_us));
    if (rounds.planned_us.empty()) continue;
    const double planned_us = median(rounds.planned_us);
    const double overlap_us = median(rounds.overlap_us);
    if (overlap_us <= kLeastOverlap * planned_us) continue;
    CostSample sample = rounds.sample;
    sample.beside = rounds.stream == StreamKind::kCompute ? Beside::kCommunication : Beside::kCompute;
    sample.algorithm = plans_.forward.all_to_all;
    pool.add(sample, planned_us, overlap_us);
  }
}

std::vector<KindTime> MeasuredOperations::kinds(Pass pass) const {
  std::map<OperationKind, double> by_kind;
  for (const Rounds& rounds : operations_) {
    if (rounds.pass == pass) by_kind[rounds.sample.kind] += median(rounds.alone_us);
  }
  std::vector<KindTime> kinds;
  for (const auto& [kind, us] : by_kind) kinds.push_back({kind, us});
  return kinds;
}

}  // namespace flex
