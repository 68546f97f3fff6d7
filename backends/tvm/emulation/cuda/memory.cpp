/* Device memory that notices what is written or read beside it: see memory.h.
 *
 * An allocation ends where a page without rights begins, but for the bytes that its alignment
 * needs; those, and the ones before it in its first page, hold a pattern that is looked at later.
 */
#include "memory.h"
#include "machine.h"

#include <cstdio>
#include <cstring>
#include <map>
#include <sys/mman.h>

namespace emulated {

enum : size_t { PAGE = 4096, ALIGNMENT = 256 };
enum : unsigned char { UNWRITTEN = 0xA5, BESIDE = 0xC3 };

struct Allocation {
  unsigned char *pages; /* the first without rights */
  size_t all_bytes, bytes;
};
static std::map<uint64_t, Allocation> alive;

static unsigned char *pointer(uint64_t address) {
  return reinterpret_cast<unsigned char *>(address);
}

static size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

uint64_t allocate(size_t bytes) {
  size_t aligned = rounded(bytes, ALIGNMENT), usable = rounded(aligned, PAGE),
         all = usable + 2 * PAGE;
  if (aligned < bytes || all < aligned) return 0;
  void *made = mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) return 0;
  unsigned char *pages = static_cast<unsigned char *>(made), *first = pages + PAGE;
  if (mprotect(first, usable, PROT_READ | PROT_WRITE)) {
    munmap(made, all);
    return 0;
  }
  unsigned char *begin = first + usable - aligned;
  std::memset(first, BESIDE, usable);
  std::memset(begin, UNWRITTEN, bytes);
  uint64_t address = reinterpret_cast<uint64_t>(begin);
  alive[address] = {pages, all, bytes};
  return address;
}

bool release(uint64_t address) {
  auto found = alive.find(address);
  if (found == alive.end()) return false;
  munmap(found->second.pages, found->second.all_bytes);
  alive.erase(found);
  return true;
}

void release_all() {
  while (!alive.empty()) release(alive.begin()->first);
}

int allocations() { return static_cast<int>(alive.size()); }

bool holds(uint64_t address, size_t bytes) {
  auto after = alive.upper_bound(address);
  if (after == alive.begin()) return false;
  auto found = std::prev(after);
  size_t offset = address - found->first;
  return offset <= found->second.bytes && bytes <= found->second.bytes - offset;
}

bool overlaps(uint64_t address, size_t bytes) {
  for (auto &[begin, one] : alive)
    if (address < begin + one.bytes && begin < address + bytes) return true;
  return false;
}

/* Mends the pattern in [from, to); returns the first byte that differed, or null. */
static unsigned char *changed(unsigned char *from, unsigned char *to) {
  unsigned char *first = nullptr;
  for (; from < to; from++)
    if (*from != BESIDE) {
      if (!first) first = from;
      *from = BESIDE;
    }
  return first;
}

bool intact(char *text, size_t size) {
  bool good = true;
  for (auto &[begin, one] : alive) {
    unsigned char *end = pointer(begin) + one.bytes;
    unsigned char *beside[] = {changed(one.pages + PAGE, pointer(begin)),
                               changed(end, one.pages + one.all_bytes - PAGE)};
    for (unsigned char *wrong : beside)
      if (wrong && good) {
        describe(wrong, text, size);
        good = false;
      }
  }
  return good;
}

void describe(const void *address, char *text, size_t size) {
  uint64_t at = reinterpret_cast<uint64_t>(address);
  for (auto &[begin, one] : alive) {
    uint64_t end = begin + one.bytes;
    unsigned long long bytes = one.bytes;
    if (at >= reinterpret_cast<uint64_t>(one.pages) && at < begin)
      std::snprintf(text, size, "an access %llu bytes before a memory of %llu bytes",
                    static_cast<unsigned long long>(begin - at), bytes);
    else if (at >= end && at < reinterpret_cast<uint64_t>(one.pages) + one.all_bytes)
      std::snprintf(text, size, "an access %llu bytes after the end of a memory of %llu bytes",
                    static_cast<unsigned long long>(at - end), bytes);
    else
      continue;
    return;
  }
  std::snprintf(text, size, "an access of no memory of the device");
}

} // namespace emulated
