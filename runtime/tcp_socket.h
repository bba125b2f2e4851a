#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/file_descriptor.h"

/// The few socket calls of the control channel. All sockets are non-blocking, without delay, and closed on
/// exec.
namespace flex {

/// `10.0.0.1:29500` or `[::1]:29500`.
[[nodiscard]] std::string address_text(const std::string& host, int port);

/// An address at which other machines reach this one: its first IPv4 address that is not the loopback's, on
/// the interface that NCCL_SOCKET_IFNAME begins with if it names one; else 127.0.0.1.
[[nodiscard]] std::string own_address();

/// Listens on `host`: a numeric address means that interface, `localhost` the loopback, and any other name
/// all interfaces, because on the machine itself a name may stand for an address that others cannot reach.
/// Port 0 takes a free one.
/// @throws CommError that says whether the port is taken or the address is not one of this machine.
[[nodiscard]] FileDescriptor listen_at(const std::string& host, int port);
/// The port of a listening socket.
[[nodiscard]] int listening_port(const FileDescriptor& listener);
/// A connection that waits, or a closed descriptor.
[[nodiscard]] FileDescriptor accept_from(const FileDescriptor& listener);

/// One try to connect within `limit`. @return a closed descriptor if nobody listens there or answers.
/// @throws CommError for a host that has no address.
[[nodiscard]] FileDescriptor try_connect(const std::string& host, int port, std::chrono::milliseconds limit);

/// Who is at the other end, e.g. `127.0.0.1`.
[[nodiscard]] std::string peer_text(const FileDescriptor& socket);

/// What has arrived, up to 64 KiB. @return false at the end of the stream or after a failure.
[[nodiscard]] bool read_some(const FileDescriptor& socket, std::string* bytes);
/// Sends what fits now. @return bytes sent, -1 after a failure.
[[nodiscard]] std::int64_t write_some(const FileDescriptor& socket, std::string_view bytes);

}  // namespace flex
