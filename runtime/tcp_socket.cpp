#include "runtime/tcp_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/require.h"

namespace flex {
namespace {

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

/// @param host null: all interfaces.
Addresses resolve(const char* host, int port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int status = getaddrinfo(host, std::to_string(port).c_str(), &hints, &found);
  require<CommError>(status == 0, "host '{}' has no address: {}", host == nullptr ? "*" : host,
                     gai_strerror(status));
  return {found, freeaddrinfo};
}

bool is_numeric(const std::string& host) {
  in6_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 || inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

FileDescriptor open_socket(const addrinfo& address) {
  FileDescriptor socket(
      ::socket(address.ai_family, address.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol));
  const int on = 1;
  if (socket.is_open()) setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return socket;
}

/// A connection to a free port of the own machine can end up at itself, if the system draws that port for it.
bool connected_to_itself(const FileDescriptor& socket) {
  sockaddr_storage own{};
  sockaddr_storage peer{};
  socklen_t own_length = sizeof(own);
  socklen_t peer_length = sizeof(peer);
  return getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own), &own_length) == 0 &&
         getpeername(socket.get(), reinterpret_cast<sockaddr*>(&peer), &peer_length) == 0 &&
         own_length == peer_length && std::memcmp(&own, &peer, own_length) == 0;
}

std::string why_not_listening(const std::string& host, int port, int error) {
  const std::string at = address_text(host, port);
  if (error == EADDRINUSE) {
    return fmt::format(
        "rank 0 cannot listen at {}: another program has the port; give this job its own, e.g. "
        "FLEX_CONTROL=<host of rank 0>:<port>",
        at);
  }
  if (error == EADDRNOTAVAIL) {
    return fmt::format(
        "rank 0 cannot listen at {}: that is no address of its machine; name the host of rank 0", at);
  }
  return fmt::format("rank 0 cannot listen at {}: {}", at, std::strerror(error));
}

}  // namespace

std::string address_text(const std::string& host, int port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

std::string own_address() {
  const char* const wanted = std::getenv("NCCL_SOCKET_IFNAME");
  std::string prefix = wanted == nullptr ? "" : wanted;
  prefix.erase(0, prefix.find_first_not_of('='));
  prefix.erase(std::min(prefix.find(','), prefix.size()));
  if (prefix.starts_with('^')) prefix.clear();  // what not to use says nothing about what to use
  std::string found = "127.0.0.1";
  ifaddrs* interfaces = nullptr;
  if (getifaddrs(&interfaces) != 0) return found;
  for (const ifaddrs* each = interfaces; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET) continue;
    if ((each->ifa_flags & IFF_UP) == 0 || (each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if (!std::string_view(each->ifa_name).starts_with(prefix)) continue;
    std::array<char, INET_ADDRSTRLEN> text{};
    const auto* address = reinterpret_cast<const sockaddr_in*>(each->ifa_addr);
    if (inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size()) == nullptr) continue;
    found = text.data();
    break;
  }
  freeifaddrs(interfaces);
  return found;
}

FileDescriptor listen_at(const std::string& host, int port) {
  constexpr int kBacklog = 1024;
  const bool everywhere = host != "localhost" && !is_numeric(host);
  const Addresses addresses = resolve(everywhere ? nullptr : host.c_str(), port, AI_PASSIVE);
  int error = 0;
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    FileDescriptor listener = open_socket(*at);
    const int on = 1;
    // A port that the last job has just left is free.
    if (listener.is_open() && setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(listener.get(), at->ai_addr, at->ai_addrlen) == 0 && listen(listener.get(), kBacklog) == 0) {
      return listener;
    }
    error = errno;
  }
  throw CommError(why_not_listening(host, port, error));
}

int listening_port(const FileDescriptor& listener) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  const int status = getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length);
  require<CommError>(status == 0, "getsockname: {}", std::strerror(errno));
  const std::uint16_t port = address.ss_family == AF_INET6
                                 ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                                 : reinterpret_cast<const sockaddr_in*>(&address)->sin_port;
  return ntohs(port);
}

FileDescriptor accept_from(const FileDescriptor& listener) {
  FileDescriptor socket(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const int on = 1;
  if (socket.is_open()) setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return socket;
}

FileDescriptor try_connect(const std::string& host, int port, std::chrono::milliseconds limit) {
  const Addresses addresses = resolve(host.c_str(), port, 0);
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    FileDescriptor socket = open_socket(*at);
    if (!socket.is_open()) continue;
    if (connect(socket.get(), at->ai_addr, at->ai_addrlen) != 0 && errno != EINPROGRESS) continue;
    pollfd wait{.fd = socket.get(), .events = POLLOUT, .revents = 0};
    int error = 0;
    socklen_t length = sizeof(error);
    if (poll(&wait, 1, static_cast<int>(limit.count())) == 1 &&
        getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0 &&
        !connected_to_itself(socket)) {
      return socket;
    }
  }
  return FileDescriptor();
}

std::string peer_text(const FileDescriptor& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  std::array<char, NI_MAXHOST> host{};
  if (getpeername(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, host.data(), host.size(), nullptr, 0,
                  NI_NUMERICHOST) != 0) {
    return "?";
  }
  return host.data();
}

bool read_some(const FileDescriptor& socket, std::string* bytes) {
  std::array<char, std::size_t{64} << 10> buffer{};
  const ssize_t count = recv(socket.get(), buffer.data(), buffer.size(), 0);
  if (count > 0) bytes->append(buffer.data(), static_cast<std::size_t>(count));
  return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR));
}

std::int64_t write_some(const FileDescriptor& socket, std::string_view bytes) {
  const ssize_t count = send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (count < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
  return count;
}

}  // namespace flex
