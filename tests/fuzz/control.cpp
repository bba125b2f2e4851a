#include "base/error.h"
#include "runtime/control_messages.h"
#include "runtime/control_wire.h"
#include "tests/fuzz/fuzz.h"

namespace {

// A message that is taken is the same bytes again: encoding has one form.
template <class Message>
void check(const Message& message, std::string_view payload) {
  flex::testing::require_promise(flex::encode(message) == payload, "a message's bytes are those bytes");
}

void decode(const flex::Frame& frame) {
  switch (frame.kind) {
    case flex::FrameKind::kHello:
      return check(flex::decode_hello(frame.payload), frame.payload);
    case flex::FrameKind::kGroup:
      return check(flex::decode_group(frame.payload), frame.payload);
    case flex::FrameKind::kArrival:
      return check(flex::decode_arrival(frame.payload), frame.payload);
    case flex::FrameKind::kComplete:
      return check(flex::decode_complete(frame.payload), frame.payload);
    case flex::FrameKind::kStuck:
      return check(flex::decode_call_id(frame.payload), frame.payload);
    case flex::FrameKind::kReport:
    case flex::FrameKind::kBeat:
      return check(flex::decode_report(frame.payload), frame.payload);
    default:
      (void)flex::printable(frame.payload);
  }
}

}  // namespace

/// What a stranger sends to the port of the control channel.
void fuzz_one(std::string_view input) {
  flex::FrameReader reader;
  reader.limit(flex::kMostHelloBytes);
  reader.append(input);
  try {
    while (const std::optional<flex::Frame> frame = reader.next()) decode(*frame);
  } catch (const flex::CommError&) {  // NOLINT(bugprone-empty-catch): refused, as promised
  }
}
