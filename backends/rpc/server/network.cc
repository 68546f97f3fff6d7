#include "network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace {

constexpr int BACKLOG = 64;
constexpr int SILENT_S = 15, PROBE_S = 5, PROBES = 3;
constexpr int UNHEARD_MS = 30000;

addrinfo *resolve(const std::string &host, const std::string &port, int flags) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  return getaddrinfo(host.c_str(), port.c_str(), &hints, &found) == 0 ? found : nullptr;
}

Descriptor socket_for(const addrinfo &address) {
  return Descriptor(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

void set(const Descriptor &socket, int level, int option, int value) {
  setsockopt(socket.number(), level, option, &value, sizeof value);
}

}  // namespace

std::string canonical_address(const std::string &text) {
  const std::string plain = text.substr(0, text.find('%'));
  char spelled[INET6_ADDRSTRLEN];
  in_addr four;
  in6_addr six;
  if (inet_pton(AF_INET, plain.c_str(), &four) == 1) return plain;
  if (inet_pton(AF_INET6, plain.c_str(), &six) != 1) return "";
  if (IN6_IS_ADDR_V4MAPPED(&six))
    return inet_ntop(AF_INET, &six.s6_addr[12], spelled, sizeof spelled);
  return inet_ntop(AF_INET6, &six, spelled, sizeof spelled);
}

Descriptor listen_on(const std::string &address, int port) {
  addrinfo *found = resolve(address, std::to_string(port), AI_PASSIVE | AI_NUMERICHOST);
  if (found == nullptr) throw std::runtime_error("--host " + address + ": not an address");
  Descriptor listener = socket_for(*found);
  set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
  bool bound = bind(listener.number(), found->ai_addr, found->ai_addrlen) == 0 &&
               listen(listener.number(), BACKLOG) == 0;
  int error = errno;
  freeaddrinfo(found);
  if (!bound)
    throw std::runtime_error("cannot listen on " + address + " port " + std::to_string(port) +
                             ": " + strerror(error));
  return listener;
}

int port_of(const Descriptor &listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(listener.number(), reinterpret_cast<sockaddr *>(&address), &size);
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<sockaddr_in6 *>(&address)->sin6_port
                   : reinterpret_cast<sockaddr_in *>(&address)->sin_port);
}

Descriptor dial(const std::string &host, const std::string &port) {
  addrinfo *found = resolve(host, port, 0);
  if (found == nullptr) return Descriptor();
  Descriptor socket = socket_for(*found);
  int status = connect(socket.number(), found->ai_addr, found->ai_addrlen);
  bool begun = status == 0 || errno == EINPROGRESS;
  freeaddrinfo(found);
  return begun ? std::move(socket) : Descriptor();
}

Descriptor accept_client(const Descriptor &listener, std::string &address, int &port) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  Descriptor client(accept4(listener.number(), reinterpret_cast<sockaddr *>(&peer), &size,
                            SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.open()) return client;
  char host[NI_MAXHOST], service[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<sockaddr *>(&peer), size, host, sizeof host, service,
                  sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return Descriptor();
  address = canonical_address(host); /* IPv4 may come to an IPv6 socket */
  port = std::stoi(service);
  return client;
}

bool send_all(const Descriptor &socket, const std::string &message) {
  ssize_t sent = send(socket.number(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == static_cast<ssize_t>(message.size());
}

void make_waiting(const Descriptor &socket) {
  int flags = fcntl(socket.number(), F_GETFL);
  fcntl(socket.number(), F_SETFL, flags & ~O_NONBLOCK);
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(socket, IPPROTO_TCP, TCP_KEEPIDLE, SILENT_S);
  set(socket, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_S);
  set(socket, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
  set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, UNHEARD_MS);
}

void make_hasty(const Descriptor &socket) {
  fcntl(socket.number(), F_SETFL, fcntl(socket.number(), F_GETFL) | O_NONBLOCK);
}

std::string number_bytes(int number) {
  std::string bytes(4, '\0');
  for (int i = 0; i < 4; i++) bytes[i] = static_cast<char>(static_cast<unsigned>(number) >> 8 * i);
  return bytes;
}

int number_in(const std::string &bytes, size_t offset) {
  unsigned number = 0;
  for (int i = 0; i < 4; i++)
    number |= static_cast<unsigned>(static_cast<unsigned char>(bytes[offset + i])) << 8 * i;
  return static_cast<int>(number);
}
