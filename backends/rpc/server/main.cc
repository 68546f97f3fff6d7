/* gmpq-board: runs programs for clients of TVM RPC; see options.cc for its options. */
#include <cstdio>
#include <stdexcept>

#include "options.h"
#include "server.h"

int main(int count, char **words) {
  const Options options = parse_options(count, words);
  try {
    Server server(options);
    server.run();
    return 0;
  } catch (const std::runtime_error &error) {
    fprintf(stderr, "gmpq-board: %s\n", error.what());
    return 2;
  }
}
