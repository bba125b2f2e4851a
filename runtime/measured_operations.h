#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "costmodel/cost_sample.h"
#include "profiler/range_source.h"
#include "runtime/pass_record.h"
#include "runtime/timed_layer.h"

namespace flex {

/// Samples of equal sizes as one.
class SamplePool {
 public:
  /// `us`: the duration, of which `beside_us` beside the other stream; `issue_us`: for the host, 0: not
  /// known.
  void add(const CostSample& sample, double us, double beside_us = 0, double issue_us = 0);
  /// Of what was alone the median; beside other work, where some are held up for long and most are not, the
  /// mean, which keeps what they lose together.
  [[nodiscard]] std::vector<CostSample> samples() const;

 private:
  struct Entry {
    CostSample sample;
    std::vector<double> us;
    double beside_us = 0;
    double issue_us = 0;
  };
  std::map<std::string, Entry> entries_;
};

/// What one kind of operation took in one pass, each of its operations with nothing beside it.
struct KindTime {
  OperationKind kind = OperationKind::kGate;
  double us = 0;

  friend bool operator==(const KindTime&, const KindTime&) = default;
};

/// How operations are measured.
struct OperationSettings {
  std::string device;  ///< of the samples
  std::string source;
  RangeClock clock = RangeClock::kMarks;  ///< of operations; whole passes are always timed by marks
  int ranks_per_device = 1;               ///< of the ranks that measure, see PassRecord
};

/// The operations of one training pass of one plan, measured in rounds. Collective: all ranks make the same
/// calls, and find the same. `layer` must outlive it.
class MeasuredOperations {
 public:
  MeasuredOperations(TimedLayer& layer, const PlanPair& plans, RankContext& context,
                     OperationSettings settings)
      : layer_(&layer), plans_(plans), context_(&context), settings_(std::move(settings)) {}

  /// One by one, with nothing beside them; on CUDA also what the host needs to queue each as planned.
  void measure_alone_blocking();
  /// As planned. After a round of the above.
  void measure_planned_blocking();

  /// Of all operations alone, and of those that were beside the other stream for a tenth of their time.
  void add_samples_to(SamplePool& pool) const;
  /// By kind, in the order of OperationKind: what its operations take alone, together.
  [[nodiscard]] std::vector<KindTime> kinds(Pass pass) const;

 private:
  /// One value of each list for each round.
  struct Rounds {
    CostSample sample;  // without its duration
    StreamKind stream = StreamKind::kCompute;
    Pass pass = Pass::kForward;
    std::vector<double> alone_us;
    std::vector<double> planned_us;
    std::vector<double> overlap_us;  // of planned_us
    std::vector<double> issue_us;    // empty: not measured
  };
  void list(const PassRecord& record);
  void measure_issue_blocking();

  TimedLayer* layer_;
  PlanPair plans_;
  RankContext* context_;
  OperationSettings settings_;
  std::vector<Rounds> operations_;
};

}  // namespace flex
