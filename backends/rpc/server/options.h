/* What the command line says. */
#pragma once

#include <string>
#include <vector>

struct Options {
  std::string host = "127.0.0.1";
  int port = 9090;
  std::string tracker_host; /* empty: clients come without a tracker, by the key */
  std::string tracker_port;
  std::string key;
  int limit_s = 600;
  std::vector<std::string> allowed; /* addresses; empty: all that can connect */
  std::string work = "/tmp";
  std::string emulated; /* the processor that is emulated, or empty */
};

/* Returns the options. Prints the usage and exits with 0, or one line of what is wrong and exits
 * with 2. */
Options parse_options(int count, char **words);
