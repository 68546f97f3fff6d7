/* The process that serves one client. */
#pragma once

#include <sys/types.h>

#include <string>

#include "descriptor.h"
#include "options.h"

/* Serves the client until it leaves; its files are kept in `folder`. Never returns, and dies with
 * the process `server`. Before it ends by itself, not by a call of the client's program, it writes
 * to `farewell`. */
[[noreturn]] void serve_client(const Descriptor &client, const std::string &folder,
                               const Options &options, pid_t server, const Descriptor &farewell);

/* Lets the client's current call fail with `message`; for sessions whose process has ended. */
void tell_client(const Descriptor &client, const std::string &message);
