/* Text: parts of it, numbers in it, JSON strings, and lines of the log. */
#pragma once

#include <optional>
#include <string>
#include <vector>

std::vector<std::string> split(const std::string &text, char separator);

/* Returns `text` without spaces and control characters at its ends. */
std::string trimmed(const std::string &text);

/* Returns the whole number that `text` is, if it is one between `low` and `high`. */
std::optional<long> whole_number(const std::string &text, long low, long high);

/* Returns `text` as a JSON string; bytes that are not ASCII become question marks. */
std::string quoted(const std::string &text);

/* Returns what somebody else wrote as a JSON string of one line that is not long. */
std::string cited(const std::string &text);

/* Returns "host:port", with an IPv6 address in brackets. */
std::string place(const std::string &host, const std::string &port);

/* Writes a line that starts with the time of day in UTC. */
void log_line(const std::string &text);
