/* What can be told about this board. */
#pragma once

#include <string>

/* Returns JSON: processor, cores, governor, frequency, temperature and more; what cannot be read is
 * null. `emulated` is the processor that is emulated, or empty. */
std::string information(const std::string &emulated);
