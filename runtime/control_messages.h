#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What ranks and the hub of a control channel tell each other: plain values with their payloads. decode_*()
/// check what they read. @throws CommError for a payload that cannot be.
namespace flex {

/// Something that all ranks of a job must have alike: `NCCL`, `2.28.9`.
struct Setting {
  std::string name;
  std::string value;
  friend bool operator==(const Setting&, const Setting&) = default;
};

struct HelloMessage {
  std::string job;
  int rank = 0;
  int world = 1;
  std::vector<Setting> settings;
};

struct GroupMessage {
  std::uint64_t group = 0;
  std::vector<int> members;  ///< world ranks, in the order of the group
};

/// A rank at the meeting `number` of a group.
struct ArrivalMessage {
  std::uint64_t group = 0;
  std::uint64_t number = 0;
  std::string operation;            ///< `all_to_all (dispatch)`
  std::string call;                 ///< the same with its sizes; must be equal on all ranks
  std::vector<std::string> pieces;  ///< one for all members, or one for each
  /// Of a ragged exchange, bytes to and from each member; else empty.
  std::vector<std::int64_t> sent_bytes;
  std::vector<std::int64_t> expected_bytes;
};

struct CompleteMessage {
  std::uint64_t group = 0;
  std::uint64_t number = 0;
  std::vector<std::string> pieces;  ///< from each member
};

/// A call of a group, by what it is matched: `#17` of the group.
struct CallId {
  std::uint64_t group = 0;
  std::uint64_t number = 0;
  friend auto operator<=>(const CallId&, const CallId&) = default;
};

enum class OperationState : std::uint8_t { kQueued, kEntered, kDone };

/// What a rank did or does.
struct FlightOperation {
  CallId id;
  OperationState state = OperationState::kQueued;
  std::string operation;
  std::string call;
};

struct GroupProgress {
  std::uint64_t group = 0;
  std::uint64_t num_calls = 0;  ///< made so far
};

struct ReportMessage {
  std::vector<GroupProgress> groups;
  std::vector<FlightOperation> operations;  ///< the last ones, oldest first
};

[[nodiscard]] std::string encode(const HelloMessage& message);
[[nodiscard]] std::string encode(const GroupMessage& message);
[[nodiscard]] std::string encode(const ArrivalMessage& message);
[[nodiscard]] std::string encode(const CompleteMessage& message);
[[nodiscard]] std::string encode(const CallId& message);
[[nodiscard]] std::string encode(const ReportMessage& message);

[[nodiscard]] HelloMessage decode_hello(std::string_view payload);
[[nodiscard]] GroupMessage decode_group(std::string_view payload);
[[nodiscard]] ArrivalMessage decode_arrival(std::string_view payload);
[[nodiscard]] CompleteMessage decode_complete(std::string_view payload);
[[nodiscard]] CallId decode_call_id(std::string_view payload);
[[nodiscard]] ReportMessage decode_report(std::string_view payload);

}  // namespace flex
