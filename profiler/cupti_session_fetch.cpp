// How recordings of a session begin and end, and how their records are fetched.
#include <exception>
#include <utility>

#include "base/log.h"
#include "profiler/cupti_session.h"

namespace flex {

void CuptiSession::start_recording_blocking() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !is_switching_; });
  if (!is_enabled_) {
    is_switching_ = true;
    lock.unlock();
    const auto finish = [&](bool enabled) {
      lock.lock();
      is_switching_ = false;
      is_enabled_ = enabled;
      changed_.notify_all();
    };
    try {
      set_clock();
      enable_records();
    } catch (...) {
      finish(false);
      throw;
    }
    finish(true);
  }
  ++num_recording_;
}

void CuptiSession::collect_blocking() {
  std::unique_lock lock(mutex_);
  const std::int64_t round = round_;
  ++num_collecting_;
  changed_.notify_all();
  const auto has_leader = [&] { return round_ != round; };
  changed_.wait_for(lock, settings_.collect_timeout, [&] {
    return has_leader() || (num_collecting_ >= num_recording_ && num_unfinished_ == 0);
  });
  if (!has_leader()) return lead_collection_blocking(lock);
  changed_.wait(lock, [&] { return finished_rounds_ > round; });
}

// For all ranks that have come: the last of them leads, or one that waited too long.
void CuptiSession::lead_collection_blocking(std::unique_lock<std::mutex>& lock) {
  ++round_;
  num_recording_ -= std::exchange(num_collecting_, 0);
  std::exception_ptr failure;
  try {
    fetch_blocking(lock, true);
  } catch (...) {
    failure = std::current_exception();
  }
  switch_off_unused(lock);
  ++finished_rounds_;
  changed_.notify_all();
  if (failure != nullptr) std::rethrow_exception(failure);
}

void CuptiSession::stop_recording() {
  std::unique_lock lock(mutex_);
  --num_recording_;
  ++num_unfinished_;
  switch_off_unused(lock);
}

void CuptiSession::switch_off_unused(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [&] { return !is_switching_; });
  if (num_recording_ == 0 && is_enabled_) {
    is_switching_ = true;
    lock.unlock();
    if (!disable_records()) log_warning("profiler: CUPTI did not switch its records off");
    lock.lock();
    is_enabled_ = false;
    is_switching_ = false;
  }
  changed_.notify_all();
}

std::int64_t CuptiSession::fetch() {
  const std::scoped_lock lock(mutex_);
  if (!fetcher_.joinable()) fetcher_ = std::thread([this] { run_fetches(); });
  --num_unfinished_;
  changed_.notify_all();
  return ++num_asked_;
}

bool CuptiSession::has_fetched(std::int64_t number) {
  const std::scoped_lock lock(mutex_);
  if (num_fetched_ < number) return false;
  if (const std::exception_ptr failure = std::exchange(fetch_failure_, nullptr)) {
    std::rethrow_exception(failure);
  }
  return true;
}

void CuptiSession::wait_fetched_blocking(std::int64_t number) {
  std::unique_lock lock(mutex_);
  const auto has_come = [&] { return num_fetched_ >= number; };
  changed_.wait_for(lock, settings_.collect_timeout, has_come);
  if (!has_come()) fetch_blocking(lock, true);  // another rank still runs: its times are lost, not these
  lock.unlock();
  static_cast<void>(has_fetched(number));
}

void CuptiSession::run_fetches() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return is_ending_ || num_asked_ > num_tried_; });
    if (is_ending_) return;
    try {
      fetch_blocking(lock, false);
    } catch (...) {
      fetch_failure_ = std::current_exception();
      num_fetched_ = num_tried_;  // nobody waits for what will not come
      changed_.notify_all();
    }
  }
}

void CuptiSession::stop_fetching() {
  {
    const std::scoped_lock lock(mutex_);
    is_ending_ = true;
    changed_.notify_all();
  }
  if (fetcher_.joinable()) fetcher_.join();
}

// A forced flush returns records of work that still runs without their times, and never again. A plain one
// returns no buffer that holds any such record, and so perhaps not all that are asked for.
void CuptiSession::fetch_blocking(std::unique_lock<std::mutex>& lock, bool forced) {
  changed_.wait(lock, [&] { return !is_switching_; });
  is_switching_ = true;
  num_tried_ = num_asked_;
  const std::int64_t number = num_tried_;
  const bool flushes_all = forced || nothing_runs();
  lock.unlock();
  bool all_came = false;
  std::exception_ptr failure;
  try {
    all_came = drain_blocking(flushes_all ? cupti::kFlushForced : cupti::kFlushCompleted);
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  is_switching_ = false;
  if (all_came) num_fetched_ = number;
  changed_.notify_all();
  if (failure != nullptr) std::rethrow_exception(failure);
}

/// Whether all records of work that is done have been read.
bool CuptiSession::drain_blocking(std::uint32_t flush_flag) {
  check("cuptiActivityFlushAll", api_.flush_all(flush_flag));
  // The buffers come back on CUPTI's thread, and the flush waits for that. Should it not, they are waited
  // for; but one that CUPTI keeps for what comes next must not be waited for each time.
  const bool is_forced = flush_flag == cupti::kFlushForced;
  if (is_forced && !keeps_buffers_) {
    keeps_buffers_ = !callbacks_.buffers().wait_returned_blocking(settings_.flush_timeout);
  }
  const bool all_came = is_forced || callbacks_.buffers().num_outstanding() == 0;
  read_filled();
  return all_came;
}

}  // namespace flex
