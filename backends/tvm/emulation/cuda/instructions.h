/* The instructions of a whole warp, and their operands: a lane's own lie on its stack. */
#pragma once
#include "machine.h"

#include <cstring>

namespace emulated {

/* ldmatrix.x4: lanes 8 m to 8 m + 7 give the rows of matrix m, of 16 bytes each. */
struct Rows {
  const void *row;
  uint32_t to[4];
};
void ldmatrix_x4(void *const lanes[LANES]);

/* mma: registers as PTX lays them out; d is added to. */
struct Fragments {
  uint32_t a[4], b[2];
  int d[4];
};
void mma_u8s8(void *const lanes[LANES]); /* m16n8k32 */
void mma_u4s4(void *const lanes[LANES]); /* m16n8k64 */

/* shfl: `lanes` is a mask, a distance or a lane, within groups of `width` lanes. */
enum Direction { XOR, DOWN, FROM };
struct Word {
  Direction direction;
  uint32_t value;
  int lanes, width;
};
void shuffle(void *const lanes[LANES]);
void need_all_lanes(unsigned mask);
void meet_all(unsigned mask);

template <class T>
T exchange(Direction direction, unsigned mask, T value, int lanes, int width) {
  static_assert(sizeof(T) == 4, "shuffles move words");
  need_all_lanes(mask);
  Word lane = {direction, 0, lanes, width};
  std::memcpy(&lane.value, &value, 4);
  meet(shuffle, &lane);
  std::memcpy(&value, &lane.value, 4);
  return value;
}

/* Four products of bytes, added to c with wrap-around. */
template <class A, class B>
int dp4a(uint32_t a, uint32_t b, int c) {
  uint32_t sum = static_cast<uint32_t>(c);
  for (int i = 0; i < 4; i++)
    sum += static_cast<uint32_t>(static_cast<A>(a >> 8 * i) * static_cast<B>(b >> 8 * i));
  return static_cast<int>(sum);
}

} // namespace emulated
