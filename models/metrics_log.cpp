#include "models/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/atomic_file.h"
#include "base/file_error.h"
#include "base/read_file.h"

namespace flex {
namespace {

std::int64_t step_of(const MetricsRecord& record) {
  return std::visit([](const auto& one) { return one.step; }, record);
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& path, std::int64_t num_done) : path_(path) {
  const bool goes_on = num_done > 0 && std::filesystem::exists(path);
  const std::string before = goes_on ? read_file(path, kMaxMetricsBytes) : "";
  std::string kept;
  parse_metrics(before, path.string(), [&](const ParsedMetricsLine& line) {
    if (step_of(line.record) > num_done) return;
    kept.assign(before, 0, line.end);
    if (!line.has_end) kept += '\n';
    const bool is_step = std::holds_alternative<StepMetrics>(line.record);
    (is_step ? last_step_ : last_evaluation_) = step_of(line.record);
  });
  if (!goes_on || kept != before) write_file_atomically(path, kept);
  file_ = FileDescriptor(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file_.is_open()) fail_file("open", path, errno);
}

void MetricsLog::add(const StepMetrics& metrics) { append(metrics, metrics.step, last_step_); }

void MetricsLog::add(const EvaluationMetrics& metrics) { append(metrics, metrics.step, last_evaluation_); }

void MetricsLog::append(const MetricsRecord& record, std::int64_t step, std::int64_t& last) {
  require(step > last && step >= std::max(last_step_, last_evaluation_),
          "{}: metrics of step {} come after those of step {}", path_.string(), step,
          std::max(last_step_, last_evaluation_));
  const std::string line = metrics_line(record);
  // One call as a rule, so that a line is there as a whole or not at all.
  for (std::size_t written = 0; written < line.size();) {
    const ::ssize_t count = ::write(file_.get(), line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_file("write", path_, errno);
    written += static_cast<std::size_t>(count);
  }
  last = step;
}

}  // namespace flex
