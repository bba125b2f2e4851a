#include "tests/base/temporary_directory.h"
#include "tests/tuner/cache_writers.h"

namespace flex {
namespace {

TEST(CacheProcessesLong, EightWriteAtOnceForTenSeconds) {
  const TemporaryDirectory directory;
  testing::expect_writers_agree(directory.path(), 8, 10);
}

}  // namespace
}  // namespace flex
