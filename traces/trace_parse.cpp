#include "traces/trace_parse.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "base/nearest_name.h"
#include "traces/json_cursor.h"
#include "traces/trace_text.h"

namespace flex {
namespace {

constexpr std::int64_t kMaxInt64 = std::numeric_limits<std::int64_t>::max();

enum Member : std::uint8_t {
  kStep,
  kLayer,
  kPass,
  kPlan,
  kDuration,
  kTopK,
  kCapacityFactor,
  kNeededCapacity,
  kCounts,
  kRecords,
  kDropped,
  kNumMembers
};
constexpr std::array<std::string_view, kNumMembers> kMemberNames = {
    "step",   "layer",   "pass",   "plan", "duration_ns", "top_k", "capacity_factor", "needed_capacity",
    "counts", "records", "dropped"};

class LineParser {
 public:
  LineParser(const TraceLine& line, bool is_open, TraceRecord& record)
      : cursor_(line), is_open_(is_open), record_(record) {}

  ParsedLine parse() {
    cursor_.expect('{', "");
    do {
      parse_member(member());
    } while (cursor_.take(','));
    if (!is_open_) cursor_.expect('}', "");
    if (!cursor_.at_end()) cursor_.reject("", "{} after the record; a line holds one", cursor_.shown());
    if (has(kRecords) || has(kDropped)) return finish_trailer();
    finish_record();
    return {};
  }

 private:
  [[nodiscard]] bool has(Member member) const { return (seen_ & (1U << member)) != 0; }

  Member member() {
    const std::string_view key = cursor_.string("");
    cursor_.expect(':', key);
    const auto* const found = std::ranges::find(kMemberNames, key);
    if (found == kMemberNames.end()) reject_key(key);
    const auto member = static_cast<Member>(found - kMemberNames.begin());
    if (has(member)) cursor_.reject(key, "stands here twice");
    if (seen_ == 0) begin();
    seen_ |= 1U << member;
    return member;
  }

  [[noreturn]] void reject_key(std::string_view key) const {
    if (key == "crc32") cursor_.reject(key, "is not last; a checksum ends its line, as 8 hexadecimal digits");
    const std::vector<std::string> names(kMemberNames.begin(), kMemberNames.end());
    const auto nearest = nearest_name(key, names);
    cursor_.reject(quote_name(key), "unknown key{}",
                   nearest ? fmt::format("; did you mean {}?", quote_name(*nearest)) : "");
  }

  void begin() {
    record_.plan.reset();
    record_.duration_ns.reset();
    record_.top_k.reset();
    record_.capacity_factor.reset();
    record_.counts.clear();
  }

  void parse_member(Member member) {
    const std::string_view key = kMemberNames[member];
    switch (member) {
      case kStep:
        record_.step = cursor_.integer(key, 0, kMaxInt64);
        break;
      case kLayer:
        record_.layer = static_cast<std::int32_t>(cursor_.integer(key, 0, kMaxTraceLayers - 1));
        break;
      case kPass:
        parse_pass(cursor_.string(key));
        break;
      case kPlan:
        parse_plan_text(cursor_.string(key));
        break;
      case kDuration:
        record_.duration_ns = cursor_.integer(key, 0, kMaxInt64);
        break;
      case kTopK:
        record_.top_k = cursor_.integer(key, 1, kMaxTraceExperts);
        break;
      case kCapacityFactor:
        record_.capacity_factor = cursor_.number(key);
        break;
      case kNeededCapacity:
        needed_capacity_ = cursor_.integer(key, 0, kMaxTraceCount);
        break;
      case kCounts:
        parse_counts();
        break;
      case kRecords:
        trailer_.num_records = cursor_.integer(key, 0, kMaxInt64);
        break;
      case kDropped:
        trailer_.num_dropped = cursor_.integer(key, 0, kMaxInt64);
        break;
      case kNumMembers:
        break;
    }
  }

  void parse_pass(std::string_view text) {
    if (text != name(Pass::kForward) && text != name(Pass::kBackward)) {
      cursor_.reject("pass", "is {}; it must be \"forward\" or \"backward\"", quote_name(text));
    }
    record_.pass = text == name(Pass::kForward) ? Pass::kForward : Pass::kBackward;
  }

  // The plans of neighbouring records are mostly equal.
  void parse_plan_text(std::string_view text) {
    try {
      record_.plan = parse_plan(text);
    } catch (const InputError& error) {
      cursor_.reject("plan", "{}", error.what());
    }
  }

  void parse_counts() {
    cursor_.expect('[', "counts");
    if (cursor_.take(']')) return;
    std::size_t index = 0;
    do {
      parse_row(index++);
    } while (cursor_.take(','));
    cursor_.expect(']', "counts");
  }

  // [rank, then for each expert from 0 on: its choices, or minus how many experts without any follow]
  void parse_row(std::size_t index) {
    std::size_t place = 0;
    const auto field = [&] { return fmt::format("counts[{}][{}]", index, place); };
    if (!cursor_.take('['))
      cursor_.reject(fmt::format("counts[{}]", index), "is {}; it must be an array", cursor_.shown());
    record_.counts.begin_row(static_cast<std::int32_t>(cursor_.integer(field, 0, kMaxTraceWorld - 1)));
    std::int64_t expert = 0;
    while (cursor_.take(',')) {
      ++place;
      const std::int64_t value = cursor_.integer(field, -kMaxTraceExperts, kMaxTraceCount);
      if (value > 0 && expert < kMaxTraceExperts) [[likely]] {
        record_.counts.add(static_cast<std::int32_t>(expert++), static_cast<std::int32_t>(value));
        largest_ = std::max(largest_, value);
      } else if (value < 0 && expert < kMaxTraceExperts) {
        expert -= value;
      } else if (value == 0) {
        cursor_.reject(field(), "is 0; it must be choices, or minus the number of experts without any");
      } else {
        cursor_.reject(field(), "is of expert {}; there are at most {} experts", expert, kMaxTraceExperts);
      }
    }
    if (!cursor_.take(']'))
      cursor_.reject(field(), "{} after it, where ',' or ']' must come", cursor_.shown());
  }

  void require_member(Member member) const {
    if (!has(member)) cursor_.reject(kMemberNames[member], "is missing");
  }

  void finish_record() const {
    for (const Member member : {kStep, kLayer, kPass}) require_member(member);
    const bool is_forward = record_.pass == Pass::kForward;
    for (const Member member : {kNeededCapacity, kCounts}) {
      if (is_forward) require_member(member);
      if (!is_forward && has(member)) {
        cursor_.reject(kMemberNames[member], "belongs to the forward pass; leave it out of a backward one");
      }
    }
    if (is_forward && needed_capacity_ != largest_) {
      cursor_.reject("needed_capacity", "is {}; the largest of the counts is {}", needed_capacity_, largest_);
    }
  }

  [[nodiscard]] ParsedLine finish_trailer() const {
    require_member(kRecords);
    require_member(kDropped);
    if (seen_ != ((1U << kRecords) | (1U << kDropped))) {
      cursor_.reject("records", "stands in a record; it belongs into the last line, beside dropped alone");
    }
    return {.is_trailer = true, .trailer = trailer_};
  }

  JsonCursor cursor_;
  bool is_open_;  // the checksum and the closing brace were taken off
  TraceRecord& record_;
  TraceTrailer trailer_;
  std::uint32_t seen_ = 0;  // a bit for each member
  std::int64_t needed_capacity_ = 0;
  std::int64_t largest_ = 0;
};

}  // namespace

bool remove_checksum(TraceLine& line) {
  constexpr std::string_view kEnd = "\"}";
  constexpr std::size_t kLength = kChecksumMember.size() + kChecksumDigits + kEnd.size();
  const std::size_t size = line.text.find_last_not_of(" \t\r") + 1;
  if (size < kLength) return false;
  const std::string_view member = line.text.substr(size - kLength, kLength);
  if (!member.starts_with(kChecksumMember) || !member.ends_with(kEnd)) return false;
  const std::string_view digits = member.substr(kChecksumMember.size(), kChecksumDigits);
  line.text = line.text.substr(0, size - kLength);
  const std::string right = fmt::format("{:08x}", trace_checksum(line.text));
  require(
      digits == right,
      "{}:{}: crc32: is {}; the line gives \"{}\": it was damaged, or changed by hand (then leave crc32 out)",
      line.file, line.number, quote_name(digits), right);
  return true;
}

ParsedLine parse_trace_line(const TraceLine& line, TraceRecord& record) {
  TraceLine rest = line;
  const bool is_open = remove_checksum(rest);
  return LineParser(rest, is_open, record).parse();
}

}  // namespace flex
