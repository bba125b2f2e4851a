#include "runtime/control_messages.h"

#include <type_traits>

#include "base/require.h"
#include "runtime/control_wire.h"

namespace flex {
namespace {

/// Changes whenever a payload does: ranks of another version are refused before anything else is read.
constexpr std::uint32_t kProtocol = 1;
constexpr std::int64_t kMostRanks = 1 << 20;
constexpr std::int64_t kMostItems = 1 << 20;

std::string text(WireReader& reader) { return std::string(reader.get_text()); }

template <class T, class Put>
void put_list(WireWriter& writer, const std::vector<T>& items, Put put) {
  writer.put(static_cast<std::int64_t>(items.size()));
  for (const T& item : items) put(item);
}

template <class T, class Get>
std::vector<T> get_list(WireReader& reader, Get get) {
  std::vector<T> items;
  // No reserve(): a number that lies costs nothing before the payload ends.
  for (std::int64_t left = reader.get_count(kMostItems); left > 0; --left) items.push_back(get());
  return items;
}

template <class T>
void put_numbers(WireWriter& writer, const std::vector<T>& numbers) {
  put_list(writer, numbers, [&](T number) { writer.put(number); });
}
template <class T>
std::vector<T> get_numbers(WireReader& reader) {
  return get_list<T>(reader, [&] { return reader.get<T>(); });
}
void put_texts(WireWriter& writer, const std::vector<std::string>& texts) {
  put_list(writer, texts, [&](const std::string& item) { writer.put_text(item); });
}
std::vector<std::string> get_texts(WireReader& reader) {
  return get_list<std::string>(reader, [&] { return text(reader); });
}

void put_id(WireWriter& writer, const CallId& id) { writer.put(id.group).put(id.number); }
CallId get_id(WireReader& reader) {
  CallId id;
  id.group = reader.get<std::uint64_t>();
  id.number = reader.get<std::uint64_t>();
  return id;
}

}  // namespace

std::string encode(const HelloMessage& message) {
  WireWriter writer;
  writer.put(kProtocol)
      .put_text(message.job)
      .put(std::int64_t{message.rank})
      .put(std::int64_t{message.world});
  put_list(writer, message.settings,
           [&](const Setting& each) { writer.put_text(each.name).put_text(each.value); });
  return writer.bytes();
}

HelloMessage decode_hello(std::string_view payload) {
  WireReader reader(payload);
  const auto protocol = reader.get<std::uint32_t>();
  require<CommError>(protocol == kProtocol, "it speaks version {} of the control channel, this is version {}",
                     protocol, kProtocol);
  HelloMessage message;
  message.job = text(reader);
  message.rank = static_cast<int>(reader.get_count(kMostRanks));
  message.world = static_cast<int>(reader.get_count(kMostRanks));
  message.settings = get_list<Setting>(reader, [&] {
    Setting each;
    each.name = text(reader);
    each.value = text(reader);
    return each;
  });
  reader.finish();
  return message;
}

std::string encode(const GroupMessage& message) {
  WireWriter writer;
  writer.put(message.group);
  put_numbers(writer, message.members);
  return writer.bytes();
}

GroupMessage decode_group(std::string_view payload) {
  WireReader reader(payload);
  GroupMessage message;
  message.group = reader.get<std::uint64_t>();
  message.members = get_numbers<int>(reader);
  reader.finish();
  return message;
}

std::string encode(const ArrivalMessage& message) {
  WireWriter writer;
  put_id(writer, {message.group, message.number});
  writer.put_text(message.operation).put_text(message.call);
  put_texts(writer, message.pieces);
  put_numbers(writer, message.sent_bytes);
  put_numbers(writer, message.expected_bytes);
  return writer.bytes();
}

ArrivalMessage decode_arrival(std::string_view payload) {
  WireReader reader(payload);
  const CallId id = get_id(reader);
  ArrivalMessage message{.group = id.group, .number = id.number};
  message.operation = text(reader);
  message.call = text(reader);
  message.pieces = get_texts(reader);
  message.sent_bytes = get_numbers<std::int64_t>(reader);
  message.expected_bytes = get_numbers<std::int64_t>(reader);
  reader.finish();
  return message;
}

std::string encode(const CompleteMessage& message) {
  WireWriter writer;
  put_id(writer, {message.group, message.number});
  put_texts(writer, message.pieces);
  return writer.bytes();
}

CompleteMessage decode_complete(std::string_view payload) {
  WireReader reader(payload);
  const CallId id = get_id(reader);
  CompleteMessage message{.group = id.group, .number = id.number, .pieces = get_texts(reader)};
  reader.finish();
  return message;
}

std::string encode(const CallId& message) {
  WireWriter writer;
  put_id(writer, message);
  return writer.bytes();
}

CallId decode_call_id(std::string_view payload) {
  WireReader reader(payload);
  const CallId id = get_id(reader);
  reader.finish();
  return id;
}

std::string encode(const ReportMessage& message) {
  WireWriter writer;
  put_list(writer, message.groups,
           [&](const GroupProgress& each) { writer.put(each.group).put(each.num_calls); });
  put_list(writer, message.operations, [&](const FlightOperation& each) {
    put_id(writer, each.id);
    writer.put(static_cast<std::int64_t>(each.state)).put_text(each.operation).put_text(each.call);
  });
  return writer.bytes();
}

ReportMessage decode_report(std::string_view payload) {
  WireReader reader(payload);
  ReportMessage message;
  message.groups = get_list<GroupProgress>(reader, [&] {
    GroupProgress each;
    each.group = reader.get<std::uint64_t>();
    each.num_calls = reader.get<std::uint64_t>();
    return each;
  });
  message.operations = get_list<FlightOperation>(reader, [&] {
    FlightOperation each;
    each.id = get_id(reader);
    each.state =
        static_cast<OperationState>(reader.get_count(static_cast<std::int64_t>(OperationState::kDone)));
    each.operation = text(reader);
    each.call = text(reader);
    return each;
  });
  reader.finish();
  return message;
}

}  // namespace flex
