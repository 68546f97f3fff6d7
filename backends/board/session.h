/* The process that serves one client. */
#pragma once

#include <string>

#include "descriptor.h"
#include "options.h"

/* Serves the client until it leaves; its files are kept in `folder`. Never returns. */
[[noreturn]] void serve_client(const Descriptor &client, const std::string &folder,
                               const Options &options);

/* Lets the client's current call fail with `message`; for sessions whose process has ended. */
void tell_client(const Descriptor &client, const std::string &message);
