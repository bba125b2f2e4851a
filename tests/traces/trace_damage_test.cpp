#include <gmock/gmock.h>

#include <algorithm>

#include "base/philox.h"
#include "tests/traces/cases.h"

/// A file that was cut anywhere, or whose bytes were changed: what comes before the damage is there, and the
/// damage is told. read_and_check() looks at what holds for all of them.
namespace flex {
namespace {

using testing::gzip_text;
using testing::read_and_check;
using testing::ReadResult;
using testing::small_header;
using testing::small_records;
using testing::trace_text;

void expect_prefix(const ReadResult& result, const std::vector<TraceRecord>& all) {
  ASSERT_LE(result.records.size(), all.size());
  EXPECT_TRUE(std::equal(result.records.begin(), result.records.end(), all.begin()));
}

TEST(TraceDamage, CutAtEveryByte) {
  const std::vector<TraceRecord> records = small_records();
  const std::string text = trace_text(small_header(), records);
  for (std::size_t size = 0; size < text.size(); ++size) {
    SCOPED_TRACE(size);
    const std::string cut = text.substr(0, size);
    const ReadResult result = read_and_check(cut);
    expect_prefix(result, records);
    // The last character of a line is its end, which is missed by nobody.
    const auto whole_lines = std::ranges::count(cut + (text[size] == '\n' ? "\n" : ""), '\n');
    EXPECT_EQ(result.header.has_value(), whole_lines >= 1);
    EXPECT_EQ(static_cast<std::int64_t>(result.records.size()),
              std::clamp<std::int64_t>(whole_lines - 1, 0, static_cast<std::int64_t>(records.size())));
    EXPECT_EQ(result.error.empty(), size + 1 == text.size());
  }
}

TEST(TraceDamage, PackedAndCutAtEveryByte) {
  const std::vector<TraceRecord> records = small_records();
  const std::string packed = gzip_text(trace_text(small_header(), records));
  for (std::size_t size = 0; size < packed.size(); ++size) {
    SCOPED_TRACE(size);
    const ReadResult result = read_and_check(packed.substr(0, size));
    expect_prefix(result, records);
    EXPECT_NE(result.error, "");
  }
}

// Every bit of every byte: checksums find what still is a record.
TEST(TraceDamage, EachBitFlipped) {
  const std::vector<TraceRecord> records = {small_records()[0], small_records()[3]};
  const std::string text = trace_text(small_header(), {testing::small_forward(), testing::small_backward()});
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      SCOPED_TRACE(at * 8 + bit);
      std::string flipped = text;
      flipped[at] = static_cast<char>(static_cast<unsigned char>(flipped[at]) ^ (1U << bit));
      const ReadResult result = read_and_check(flipped);
      expect_prefix(result, records);
      // The end of the last line may be any blank, or missing.
      EXPECT_EQ(result.error.empty(), at + 1 == text.size() && (flipped[at] == ' ' || flipped[at] == '\n'))
          << result.error;
    }
  }
}

TEST(TraceDamage, PackedAndEachByteChanged) {
  const std::vector<TraceRecord> records = small_records();
  const std::string packed = gzip_text(trace_text(small_header(), records));
  constexpr std::size_t kHeaderBytes = 10;  // of gzip: a time and the like, which nobody looks at
  for (std::size_t at = kHeaderBytes; at < packed.size(); ++at) {
    SCOPED_TRACE(at);
    std::string changed = packed;
    changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ 0x5AU);
    const ReadResult result = read_and_check(changed);
    expect_prefix(result, records);
    EXPECT_NE(result.error, "");
  }
}

// Lines without checksums, in which bytes and pieces are replaced, left out and repeated at random.
TEST(TraceDamage, RandomMutations) {
  std::string text = trace_text(small_header(), small_records());
  for (std::size_t at = text.find(",\"crc32\""); at != std::string::npos; at = text.find(",\"crc32\"")) {
    text.erase(at, std::string(R"(,"crc32":"00000000")").size());
  }
  ASSERT_EQ(read_and_check(text).records, small_records());
  const std::string alphabet = "0123456789-+.eE,:[]{}\"\n \\tfnr\xff";
  PhiloxStream random(5);
  int num_whole = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string changed = text;
    for (std::int64_t edit = random.below(3); edit >= 0; --edit) {
      const auto at = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(changed.size())));
      const auto length = static_cast<std::size_t>(random.below(12));
      switch (random.below(3)) {
        case 0:
          changed[at] =
              alphabet[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(alphabet.size())))];
          break;
        case 1:
          changed.erase(at, length);
          break;
        default:
          changed.insert(at, changed.substr(at, length));
      }
    }
    num_whole += read_and_check(changed, 4096).error.empty() ? 1 : 0;
  }
  EXPECT_LT(num_whole, 2500) << "most changes are damage";
}

}  // namespace
}  // namespace flex
