/* The instructions of a whole warp: see instructions.h, and "Warp-level matrix instructions" in the
 * PTX ISA for how fragments lie in registers.
 */
#include "instructions.h"

#include <emmintrin.h>

namespace emulated {

void ldmatrix_x4(void *const lanes[LANES]) {
  for (int matrix = 0; matrix < 4; matrix++)
    for (int l = 0; l < LANES; l++) {
      const Rows *giver = static_cast<const Rows *>(lanes[matrix * 8 + l / 4]);
      std::memcpy(&static_cast<Rows *>(lanes[l])->to[matrix],
                  static_cast<const char *>(giver->row) + l % 4 * 4, 4);
    }
}

/* The numbers of a register, the first in its lowest bits. */
template <int BITS>
static void unpack(uint32_t word, bool is_signed, int16_t *to) {
  for (int i = 0; i < 32 / BITS; i++) {
    uint32_t code = word >> BITS * i & ((1u << BITS) - 1);
    to[i] =
        static_cast<int16_t>(is_signed && code >> (BITS - 1) ? int(code) - (1 << BITS) : int(code));
  }
}

/* d [16, 8] += a [16, K] * b [K, 8]. Register r of a, of lane l, holds row l / 4 + 8 (r % 2) and
 * the word l % 4 of the half r / 2 of K; register r of b holds column l / 4 and the same word of
 * half r; register r of d holds row l / 4 + 8 (r / 2) and column 2 (l % 4) + r % 2. */
template <int BITS>
static void mma(void *const lanes[LANES]) {
  enum { WORD = 32 / BITS, K = 8 * WORD };
  int16_t a[16][K];
  alignas(16) int16_t b[K / 2][8][2]; /* pairs of K, of all columns */
  for (int l = 0; l < LANES; l++) {
    const Fragments *lane = static_cast<const Fragments *>(lanes[l]);
    for (int r = 0; r < 4; r++)
      unpack<BITS>(lane->a[r], false, &a[l / 4 + r % 2 * 8][(l % 4 + r / 2 * 4) * WORD]);
    for (int r = 0; r < 2; r++) {
      int16_t column[WORD];
      unpack<BITS>(lane->b[r], true, column);
      for (int i = 0; i < WORD; i++)
        b[(l % 4 + r * 4) * (WORD / 2) + i / 2][l / 4][i % 2] = column[i];
    }
  }
  alignas(16) int sums[16][8];
  for (int row = 0; row < 16; row++) {
    __m128i low = _mm_setzero_si128(), high = low;
    for (int k = 0; k < K / 2; k++) {
      int pair;
      std::memcpy(&pair, &a[row][2 * k], 4);
      __m128i both = _mm_set1_epi32(pair);
      low = _mm_add_epi32(
          low, _mm_madd_epi16(both, _mm_load_si128(reinterpret_cast<__m128i *>(b[k][0]))));
      high = _mm_add_epi32(
          high, _mm_madd_epi16(both, _mm_load_si128(reinterpret_cast<__m128i *>(b[k][4]))));
    }
    _mm_store_si128(reinterpret_cast<__m128i *>(&sums[row][0]), low);
    _mm_store_si128(reinterpret_cast<__m128i *>(&sums[row][4]), high);
  }
  for (int l = 0; l < LANES; l++) {
    Fragments *lane = static_cast<Fragments *>(lanes[l]);
    for (int r = 0; r < 4; r++) { /* without .satfinite sums wrap around */
      uint32_t sum = static_cast<uint32_t>(sums[l / 4 + r / 2 * 8][l % 4 * 2 + r % 2]);
      lane->d[r] = static_cast<int>(static_cast<uint32_t>(lane->d[r]) + sum);
    }
  }
}
void mma_u8s8(void *const lanes[LANES]) { mma<8>(lanes); }
void mma_u4s4(void *const lanes[LANES]) { mma<4>(lanes); }

static int source_lane(const Word &word, int lane) {
  int first = lane / word.width * word.width;
  switch (word.direction) {
  case XOR: { /* a lane of a later group keeps its own */
    int source = lane ^ word.lanes;
    return source < first + word.width && source < LANES ? source : lane;
  }
  case DOWN:
    return lane + word.lanes < first + word.width ? lane + word.lanes : lane;
  case FROM:
    return first + word.lanes % word.width;
  }
  __builtin_unreachable();
}

void shuffle(void *const lanes[LANES]) {
  uint32_t values[LANES];
  for (int l = 0; l < LANES; l++) values[l] = static_cast<Word *>(lanes[l])->value;
  for (int l = 0; l < LANES; l++) {
    Word *word = static_cast<Word *>(lanes[l]);
    word->value = values[source_lane(*word, l)];
  }
}

void need_all_lanes(unsigned mask) {
  if (mask != 0xffffffffu)
    fail(LAUNCH_FAILED, "a collective of the lanes 0x%08x, where all 32 are emulated", mask);
}

static void nothing(void *const *) {}
void meet_all(unsigned mask) {
  need_all_lanes(mask);
  meet(nothing, nullptr);
}

} // namespace emulated
