#include "text.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>

namespace {

constexpr size_t MOST_CITED = 120;

}  // namespace

std::vector<std::string> split(const std::string &text, char separator) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

std::string trimmed(const std::string &text) {
  size_t first = 0, last = text.size();
  while (first < last && static_cast<unsigned char>(text[first]) <= ' ') first++;
  while (last > first && static_cast<unsigned char>(text[last - 1]) <= ' ') last--;
  return text.substr(first, last - first);
}

std::optional<long> whole_number(const std::string &text, long low, long high) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  if (text.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  long number = std::strtol(text.c_str(), nullptr, 10);
  if (number < low || number > high) return std::nullopt;
  return number;
}

std::string quoted(const std::string &text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    unsigned char byte = static_cast<unsigned char>(c);
    result += byte < ' ' || byte > '~' ? '?' : c;
  }
  return result + '"';
}

std::string cited(const std::string &text) {
  return text.size() <= MOST_CITED ? quoted(text) : quoted(text.substr(0, MOST_CITED)) + "...";
}

std::string place(const std::string &host, const std::string &port) {
  bool colons = host.find(':') != std::string::npos;
  return (colons ? "[" + host + "]" : host) + ":" + port;
}

void log_line(const std::string &text) {
  char stamp[32];
  time_t now = time(nullptr);
  tm parts;
  gmtime_r(&now, &parts);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ ", &parts);
  std::string line = stamp + text + "\n";
  while (write(STDOUT_FILENO, line.data(), line.size()) < 0 && errno == EINTR) {
  }
}
