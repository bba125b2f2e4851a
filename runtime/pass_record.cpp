#include "runtime/pass_record.h"

#include <algorithm>
#include <array>

#include "costmodel/simulation.h"
#include "runtime/device_time.h"

namespace flex {
namespace {

/// When an operation worked on one rank, in nanoseconds.
struct Interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] std::int64_t length() const { return std::max<std::int64_t>(end - begin, 0); }
  [[nodiscard]] Interval cut_to(const Interval& other) const {
    return {std::max(begin, other.begin), std::min(end, other.end)};
  }
};

std::size_t index_of(StreamKind stream) { return static_cast<std::size_t>(stream); }

/// Time that any of the intervals covers; sorts them.
std::int64_t covered_ns(std::vector<Interval>& intervals) {
  std::ranges::sort(intervals, {}, &Interval::begin);
  std::int64_t sum = 0;
  std::int64_t covered_until = INT64_MIN;
  for (const Interval& interval : intervals) {
    sum += Interval{std::max(interval.begin, covered_until), interval.end}.length();
    covered_until = std::max(covered_until, interval.end);
  }
  return sum;
}

class Durations {
 public:
  explicit Durations(const PassRecord& record)
      : record_(record),
        work_(record.times.size()),
        begin_(record.times.size()),
        result_(record.operations.size()) {}

  std::vector<OperationDuration> find() {
    for (int rank = 0; rank < record_.world; ++rank) find_ready(rank);
    for (std::size_t i = 0; i < result_.size(); ++i) {
      if (is_collective(i)) meet(i);
    }
    for (int rank = 0; rank < record_.world; rank += record_.ranks_per_device) {
      for (const StreamKind stream : {StreamKind::kCompute, StreamKind::kCommunication}) {
        add_shared(rank, stream);
      }
    }
    for (std::size_t i = 0; i < result_.size(); ++i) {
      if (is_shared(i)) continue;
      for (int rank = 0; rank < record_.world; ++rank) {
        add(i, static_cast<double>(work(rank, i).length()), rank, record_.world);
      }
    }
    return std::move(result_);
  }

 private:
  [[nodiscard]] Interval& work(int rank, std::size_t operation) {
    return work_[static_cast<std::size_t>(rank) * result_.size() + operation];
  }
  [[nodiscard]] std::int64_t& begin(int rank, std::size_t operation) {
    return begin_[static_cast<std::size_t>(rank) * result_.size() + operation];
  }
  [[nodiscard]] const Operation& operation(std::size_t index) const {
    return record_.operations[index].operation;
  }
  [[nodiscard]] bool is_collective(std::size_t index) const {
    return group_of(operation(index).kind) != OperationGroup::kNone;
  }
  /// Whether it is each rank's own, and yet the kernels of ranks on one device queue behind each other.
  [[nodiscard]] bool is_shared(std::size_t index) const {
    return !is_collective(index) && operation(index).stream != StreamKind::kHost;
  }

  /// Adds what a rank's part took, `ns`, to the mean over `parts`; what ran beside it counts in proportion.
  void add(std::size_t index, double ns, int rank, int parts) {
    const auto length_ns = static_cast<double>(work(rank, index).length());
    if (length_ns <= 0) return;
    result_[index].us += ns * 1e-3 / parts;
    result_[index].overlap_us +=
        ns * (static_cast<double>(overlap_ns(rank, index)) / length_ns) * 1e-3 / parts;
  }

  /// Divides the time that a device spends on what its ranks, from `first` on, do in these streams.
  void add_shared(int first, StreamKind stream) {
    std::vector<DeviceWork> pieces;
    for (int rank = first; rank < first + record_.ranks_per_device; ++rank) {
      for (std::size_t i = 0; i < result_.size(); ++i) {
        if (!is_shared(i) || operation(i).stream != stream) continue;
        const Interval& own = work(rank, i);
        pieces.push_back({.ready_ns = own.begin, .begin_ns = begin(rank, i), .end_ns = own.end});
      }
    }
    const std::vector<double> divided_ns = divide_device_time(pieces);
    std::size_t next = 0;
    for (int rank = first; rank < first + record_.ranks_per_device; ++rank) {
      for (std::size_t i = 0; i < result_.size(); ++i) {
        if (!is_shared(i) || operation(i).stream != stream) continue;
        add(i, divided_ns[next++], rank, record_.world / record_.ranks_per_device);
      }
    }
  }
  /// Ranks that do the operation together with `rank`.
  [[nodiscard]] std::vector<int> members(int rank, std::size_t index) const {
    const OperationGroup group = group_of(operation(index).kind);
    if (group == OperationGroup::kNone) return {rank};
    const int size = static_cast<int>(std::max<std::int64_t>(operation(index).size.peers, 1));
    const bool rail = group == OperationGroup::kRail;
    const int stride = rail ? record_.world / size : 1;
    const int first = rail ? rank % stride : rank / size * size;
    std::vector<int> ranks;
    for (int i = 0; i < size; ++i) ranks.push_back(first + i * stride);
    return ranks;
  }

  // The executor's order: a stream's operations one after the other, what an operation waits for, passes one
  // after the other on compute and communication, and nothing before the host has issued it.
  void find_ready(int rank) {
    std::array<std::int64_t, kNumStreams> last_end{};     // by stream
    std::vector<std::int64_t> ends;                       // by operation
    std::array<std::int64_t, kNumStreams> last_passes{};  // the same when the pass began
    std::size_t first = 0;                                // operation of the pass
    for (std::size_t i = 0; i < result_.size(); ++i) {
      const Operation& own = operation(i);
      if (i == 0 || record_.operations[i].pass != record_.operations[i - 1].pass) {
        first = i;
        last_passes = last_end;
      }
      const PassRecord::Times& times = record_.at(rank, i);
      std::int64_t ready = std::max(last_end[index_of(own.stream)], last_end[index_of(StreamKind::kHost)]);
      if (own.stream != StreamKind::kHost) ready = std::max(ready, *std::ranges::max_element(last_passes));
      for (const std::int16_t wait : own.waits_for()) {
        ready = std::max(ready, ends[first + static_cast<std::size_t>(wait)]);
      }
      const bool seen = times.end_ns != MarkSource::kNotReached;
      // What nothing comes before is ready when it begins.
      if (seen) ready = ready == 0 ? times.begin_ns : std::min(ready, times.begin_ns);
      work(rank, i) = {ready, seen ? times.end_ns : ready};
      begin(rank, i) = seen ? times.begin_ns : ready;
      ends.push_back(work(rank, i).end);
      last_end[index_of(own.stream)] = ends.back();
    }
  }

  void meet(std::size_t index) {
    for (int rank = 0; rank < record_.world; ++rank) {
      const std::vector<int> group = members(rank, index);
      if (group.front() != rank) continue;
      Interval together = work(rank, index);
      for (const int member : group) {
        together.begin = std::max(together.begin, work(member, index).begin);
        together.end = std::max(together.end, work(member, index).end);
      }
      for (const int member : group) work(member, index) = together;
    }
  }

  [[nodiscard]] std::int64_t overlap_ns(int rank, std::size_t index) {
    const StreamKind own = operation(index).stream;
    if (own == StreamKind::kHost) return 0;
    const StreamKind other = own == StreamKind::kCompute ? StreamKind::kCommunication : StreamKind::kCompute;
    // Compute is slowed by its own rank's communication, a collective by compute of all of its members.
    beside_.clear();
    for (const int member : own == StreamKind::kCompute ? std::vector{rank} : members(rank, index)) {
      for (std::size_t i = 0; i < result_.size(); ++i) {
        if (operation(i).stream != other) continue;
        const Interval both = work(member, i).cut_to(work(rank, index));
        if (both.length() > 0) beside_.push_back(both);
      }
    }
    return covered_ns(beside_);
  }

  const PassRecord& record_;
  std::vector<Interval> work_;       // (W, operations), from when it was ready
  std::vector<std::int64_t> begin_;  // (W, operations)
  std::vector<OperationDuration> result_;
  std::vector<Interval> beside_;
};

}  // namespace

PassRecord gather_record(std::span<const RecordedOperation> recorded, RankContext& context,
                         int ranks_per_device) {
  PassRecord record{.world = context.size(),
                    .ranks_per_device = ranks_per_device,
                    .operations = {recorded.begin(), recorded.end()}};
  std::vector<std::int64_t> mine;
  mine.reserve(2 * recorded.size());
  for (const RecordedOperation& operation : recorded) {
    mine.push_back(operation.begin_ns);
    mine.push_back(operation.end_ns);
  }
  std::vector<std::int64_t> all(mine.size() * static_cast<std::size_t>(context.size()));
  context.control().gather_host_blocking(mine, all);
  record.times.reserve(all.size() / 2);
  for (std::size_t i = 0; i < all.size(); i += 2) record.times.push_back({all[i], all[i + 1]});
  return record;
}

std::vector<OperationDuration> durations_of(const PassRecord& record) { return Durations(record).find(); }

}  // namespace flex
