/* Sockets that never wait, and who is at their other end. */
#pragma once

#include <string>

#include "descriptor.h"

/* Returns the one spelling of a numeric address, that of IPv4 where it stands for one; else nothing.
 * The interface of a link-local address is left out. */
std::string canonical_address(const std::string &text);

/* Returns a listening socket; throws std::runtime_error. */
Descriptor listen_on(const std::string &address, int port);

int port_of(const Descriptor &listener);

/* Returns a socket that is being connected, or none. */
Descriptor dial(const std::string &host, const std::string &port);

/* Returns a client that waits at `listener`, or none, and its address. */
Descriptor accept_client(const Descriptor &listener, std::string &address, int &port);

/* Sends all of a short message; false if the other end does not take it at once. */
bool send_all(const Descriptor &socket, const std::string &message);

/* Makes the socket wait, and end when its other end has been silent and gone for half a minute. */
void make_waiting(const Descriptor &socket);

/* Makes the socket one that never waits, again. */
void make_hasty(const Descriptor &socket);

/* The four bytes of a number in messages of TVM, which are little-endian. */
std::string number_bytes(int number);
int number_in(const std::string &bytes, size_t offset);
