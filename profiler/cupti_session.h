#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "profiler/cupti_abi.h"
#include "profiler/cupti_callbacks.h"
#include "profiler/cupti_records.h"

namespace flex {

struct CuptiSettings {
  /// Runs a kernel on the device and waits for it: its record proves that records arrive.
  std::function<void()> sentinel;
  std::chrono::milliseconds sentinel_timeout{1000};  ///< for that record
  std::chrono::milliseconds collect_timeout{2000};   ///< for the other ranks of the process
  std::chrono::milliseconds flush_timeout{
      100};  ///< for buffers that come back after a flush, until they once do not
  std::chrono::milliseconds quiet_timeout{1000};  ///< for the last buffers, at the end
};

/// The use of CUPTI by this process. Its ranks share it; records are on only while one of them records.
/// Kernels are recorded as they run (CONCURRENT_KERNEL), with copies, memsets, CUPTI's own overhead, and the
/// calls that external correlation records come with. For any threads; no lock is held across a call of
/// CUPTI.
class CuptiSession {
 public:
  /// The process's session, started by the first caller and ended with its last owner. `api` must live as
  /// long as the process. Returns, for people, why CUPTI cannot be used: another tool holds it, it refuses a
  /// call, or the sentinel's record does not arrive. Then CUPTI is as it was before.
  [[nodiscard]] static std::variant<std::shared_ptr<CuptiSession>, std::string> join_blocking(
      const cupti::Api& api, const CuptiSettings& settings);

  /// Detaches from CUPTI. Only a quiet one is finalized: nothing records and it has given all buffers back.
  /// One that is not stays attached, with a warning.
  ~CuptiSession();
  CuptiSession(const CuptiSession&) = delete;
  CuptiSession& operator=(const CuptiSession&) = delete;

  /// One rank's records are wanted from now on. @throws DeviceError.
  void start_recording_blocking();
  /// One rank's records are all there: what it queued is done. Waits until every rank that records has come
  /// here, since the records of work that is not done must not be asked for; after collect_timeout not any
  /// more. @throws DeviceError.
  void collect_blocking();

  /// One rank's recording ends, although what it queued may still run: its records are asked for later.
  /// Records of what runs already come all the same, since CUPTI decides at each call whether it is recorded.
  void stop_recording();
  /// What a recording that stop_recording() ended has queued is done: a thread of the session's own fetches
  /// its records. Does not wait. The number is for has_fetched().
  std::int64_t fetch();
  /// Whether the records are there. If not, those of another rank's work that still runs lie between them, or
  /// they are under way. @throws DeviceError if CUPTI failed; the next call then says that all has come.
  [[nodiscard]] bool has_fetched(std::int64_t number);
  /// Waits for them, as collect_blocking() does. @throws DeviceError.
  void wait_fetched_blocking(std::int64_t number);

  /// Takes out what `local_rank` did, on the host's steady clock, in the order in which it began, but for the
  /// work that `keep` names.
  [[nodiscard]] std::vector<CuptiActivity> take(std::int32_t local_rank, const CuptiRecords::Keep& keep = {});
  /// Takes out when CUPTI was busy with itself, on the host's steady clock.
  [[nodiscard]] std::vector<CuptiOverhead> take_overheads();

  /// Work that the calling thread queues is `id`'s until pop(). Pairs do not nest. `records`: false if nobody
  /// asks for its records; only graph nodes are noted, and what is recorded for another rank's sake is
  /// dropped. @throws DeviceError.
  void push(const WorkId& id, bool records = true);
  void pop();

  /// Of all ranks since the session started.
  [[nodiscard]] CuptiCounts counts() const;
  /// The clocks were compared this exactly, the last time that recording started.
  [[nodiscard]] std::int64_t clock_error_ns() const;

 private:
  CuptiSession(const cupti::Api& api, CuptiSettings settings) : api_(api), settings_(std::move(settings)) {}
  void start_blocking();
  void prove_records_arrive_blocking();
  void lead_collection_blocking(std::unique_lock<std::mutex>& lock);
  void run_fetches();
  void stop_fetching();
  void fetch_blocking(std::unique_lock<std::mutex>& lock, bool forced);
  void switch_off_unused(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] bool nothing_runs() const { return num_recording_ == 0 && num_unfinished_ == 0; }
  void enable_records();
  bool disable_records() noexcept;
  void set_clock();
  bool drain_blocking(std::uint32_t flush_flag);
  void read_filled();
  void check(const char* call, std::int32_t result) const;

  const cupti::Api& api_;
  const CuptiSettings settings_;
  CuptiCallbacks& callbacks_ = CuptiCallbacks::instance();
  void* subscriber_ = nullptr;
  bool keeps_buffers_ = false;  // a flush did not bring all; of the thread that drains
  bool has_callbacks_ = false;  // CUPTI may hold buffers

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool is_switching_ =
      false;  // a thread switches records on or off, or drains: others wait, without the lock
  bool is_enabled_ = false;
  int num_recording_ = 0;
  int num_collecting_ = 0;
  int num_unfinished_ = 0;        // recordings that were stopped, and whose work is not known to be done
  std::int64_t num_asked_ = 0;    // fetches
  std::int64_t num_tried_ = 0;    // of those
  std::int64_t num_fetched_ = 0;  // of those, with all records
  std::exception_ptr fetch_failure_;
  bool is_ending_ = false;
  std::int64_t round_ = 0;  // that ranks now gather for
  std::int64_t finished_rounds_ = 0;
  std::int64_t offset_ns_ = 0;  // host's clock minus CUPTI's
  std::int64_t clock_error_ns_ = 0;
  CuptiRecords records_;
  std::vector<std::uint64_t> destroyed_nodes_;  // since the last drain: their records may still come
  std::thread fetcher_;                         // from the first fetch() on
};

}  // namespace flex
