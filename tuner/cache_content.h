#pragma once

#include <optional>
#include <utility>

#include "base/log.h"
#include "tuner/cache.h"
#include "tuner/cache_open.h"
#include "tuner/cache_store.h"

namespace flex {

struct TuningCache::Content {
  std::filesystem::path path;
  CacheOptions options;
  std::optional<CacheStore> store;
  bool is_persistent = false;
  std::int64_t num_bad_rows_before = 0;  ///< of stores that were given up

  /// The file turned out to be damaged: it is set aside, as at opening.
  void begin_afresh();
  /// The file does not take what is written: `reason` is said once.
  void go_on_in_memory(const std::string& reason);
  void adopt(OpenedCache opened);
};

template <class Work>
auto TuningCache::guarded(Work&& work) {
  for (bool was_damaged = false;;) {
    try {
      return work(*content_->store);
    } catch (const SqliteError& error) {
      if (!content_->is_persistent) throw;
      if (error.is_damage() && !was_damaged) {
        was_damaged = true;
        content_->begin_afresh();
      } else {
        content_->go_on_in_memory(error.what());
      }
    }
  }
}

}  // namespace flex
