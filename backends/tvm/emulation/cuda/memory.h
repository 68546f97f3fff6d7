/* The memory of the device: pages of the host, between pages that nothing may touch. */
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulated {

/* Returns an address that is aligned to 256 bytes; 0 where there is no memory. */
uint64_t allocate(size_t bytes);
bool release(uint64_t address); /* false: nothing begins there */
void release_all();
int allocations();
bool holds(uint64_t address, size_t bytes);    /* within one allocation */
bool overlaps(uint64_t address, size_t bytes); /* with any */

/* Returns whether the bytes beside all allocations are as they were; mends them, and `text` says
 * which are not. */
bool intact(char *text, size_t size);

} // namespace emulated
