#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/profiler/forged_records.h"

namespace flex::testing {

/// Stands in for libcupti and the GPU behind it: keeps records back until a flush, and delivers them from a
/// thread of its own, shuffled, over several buffers. A plain flush withholds those of kernels that run, with
/// a buffer; a forced one brings them without times, and never again. Every call first lets that thread use
/// all of Flex's callbacks and waits for it, so that a lock of Flex's held across a call never comes back.
/// One at a time.
class FakeCupti {
 public:
  static constexpr std::int64_t kClockAheadNs = 1'000'000'000'000;  ///< its clock minus the host's

  enum class Delivery : std::uint8_t {
    kInFlush,     ///< a flush returns when all is delivered
    kAfterFlush,  ///< all comes some milliseconds after the flush has returned
    kNever,       ///< buffers stay with CUPTI
  };

  FakeCupti();
  ~FakeCupti();  ///< delivers what it holds
  FakeCupti(const FakeCupti&) = delete;
  FakeCupti& operator=(const FakeCupti&) = delete;

  [[nodiscard]] static const cupti::Api& api();

  // What it does
  std::atomic<Delivery> delivery = Delivery::kInFlush;
  std::atomic<std::uint64_t> seed = 1;  ///< of the order of delivery
  std::atomic<std::size_t> records_per_buffer = 3;
  std::atomic<bool> records_kernels = true;  ///< false: kernels leave no record
  std::atomic<std::uint32_t> version = 130001;
  /// The n-th call of this function from now on (0: the next) and all later ones return `result`.
  void fail(const std::string& function, std::int32_t result = 999, int after = 0);
  void succeed();

  // What the program does
  struct Launch {
    const char* name = "kernel";
    std::uint32_t stream = 7;
    std::uint64_t graph_node = 0;
  };
  /// A call that runs kernels of 1000 ns, on the calling thread. Its time on the host's clock is returned.
  std::int64_t launch(const std::vector<Launch>& kernels);
  std::atomic<bool> kernels_go_on = false;  ///< those launched from now on run until finish_kernels()
  void finish_kernels();
  void drop(std::size_t num_records) { num_dropped_ += num_records; }
  void create_node(std::uint64_t node);
  void clone_node(std::uint64_t node, std::uint64_t original);
  void destroy_node(std::uint64_t node);
  void add_record(Bytes record);  ///< as it is
  /// A buffer whose records end in the middle of one.
  void deliver_broken_buffer();

  // What was asked of it
  [[nodiscard]] int num_calls(const std::string& function) const;
  [[nodiscard]] std::set<std::uint32_t> enabled() const;
  [[nodiscard]] std::set<std::uint32_t> ever_enabled() const;
  [[nodiscard]] bool is_subscribed() const;
  [[nodiscard]] std::size_t num_held_buffers() const;

 private:
  friend struct FakeCalls;

  std::int32_t called(const char* function);
  void run_on_worker(std::function<void()> task, bool wait);
  void poke_callbacks(bool with_buffer);
  void deliver(std::vector<Bytes> records, std::uint64_t order);
  void withhold_buffer(bool withholds);  // on the worker
  void node_changed(std::uint32_t id, std::uint64_t node, std::uint64_t original);

  mutable std::mutex mutex_;
  std::map<std::string, int> calls_;
  std::map<std::string, std::pair<int, std::int32_t>> failures_;  // calls left, result
  std::set<std::uint32_t> enabled_, ever_enabled_;
  cupti::BufferRequested requested_ = nullptr;
  cupti::BufferCompleted completed_ = nullptr;
  cupti::Callback callback_ = nullptr;
  bool subscribed_ = false;
  std::map<std::thread::id, std::vector<std::uint64_t>> external_ids_;
  std::vector<Bytes> pending_;
  std::vector<Bytes> running_;        // records of kernels that run
  std::uint8_t* withheld_ = nullptr;  // the buffer that they lie in
  std::vector<std::uint8_t*> held_;   // buffers that are not given back
  std::uint32_t next_correlation_ = 1;
  std::atomic<std::size_t> num_dropped_ = 0;

  std::condition_variable work_changed_;
  std::deque<std::function<void()>> work_;
  std::uint64_t num_queued_ = 0, num_done_ = 0;
  bool is_ending_ = false;
  std::thread worker_;
};

}  // namespace flex::testing
