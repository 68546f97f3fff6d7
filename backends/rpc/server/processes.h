/* Ending processes that clients started. */
#pragma once

#include <sys/types.h>

#include <string>

/* Kills a process, which leads its session, and all others of its group. */
void end_group(pid_t leader);

/* Kills all processes that descend from this one, and waits a second for their end. */
void end_processes();

/* Returns the name of a signal without "SIG". */
std::string signal_name(int number);
