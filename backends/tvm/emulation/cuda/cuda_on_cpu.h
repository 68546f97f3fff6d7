/* CUDA C for g++: words, types, functions and instructions of the texts that are emulated.
 *
 * It is included before a text, which is compiled with -DGMPQ_EMULATED and -ffp-contract=off: its
 * helpers then call `emulated_...` where they have PTX for a GPU.
 */
#pragma once
#include "instructions.h"
#include "machine.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

/* Words. */
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define alignas(n) __attribute__((aligned(n))) /* g++ takes no alignas after "static" */
#define __shared__ static __attribute__((section("emulated_shared")))
#define threadIdx emulated::thread_index
#define blockIdx emulated::block_index
#define blockDim emulated::block_size
#define gridDim emulated::grid_size
#define warpSize 32

/* Vectors. */
#define GMPQ_VECTORS(name, type, two, four)                                   \
  struct name##1 { type x; };                                                 \
  struct __align__(two) name##2 { type x, y; };                               \
  struct name##3 { type x, y, z; };                                           \
  struct __align__(four) name##4 { type x, y, z, w; };                        \
  inline name##1 make_##name##1(type x) { return {x}; }                       \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
GMPQ_VECTORS(char, signed char, 2, 4)
GMPQ_VECTORS(uchar, unsigned char, 2, 4)
GMPQ_VECTORS(short, short, 4, 8)
GMPQ_VECTORS(ushort, unsigned short, 4, 8)
GMPQ_VECTORS(int, int, 8, 16)
GMPQ_VECTORS(uint, unsigned, 8, 16)
GMPQ_VECTORS(longlong, long long, 16, 16)
GMPQ_VECTORS(ulonglong, unsigned long long, 16, 16)
GMPQ_VECTORS(float, float, 8, 16)
GMPQ_VECTORS(double, double, 16, 16)
#undef GMPQ_VECTORS

/* Arithmetic. */
template <class T>
T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
T min(T a, T b) {
  return a < b ? a : b;
}
inline float max(float a, float b) { return fmaxf(a, b); } /* of a number and NaN: the number */
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }
inline float __ll2float_rn(long long a) { return static_cast<float>(a); }

inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
/* Functions that a GPU has in a fast form too, of some more error; glibc declares these names. */
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
#define __fdividef(a, b) ((a) / (b))

/* Integers of floats: what does not fit becomes the nearest that does, and NaN becomes 0. */
inline int emulated_to_int(float whole) {
  if (whole != whole) return 0;
  if (whole >= 2147483648.0f) return 2147483647;
  return whole < -2147483648.0f ? -2147483647 - 1 : static_cast<int>(whole);
}
inline unsigned emulated_to_uint(float whole) {
  if (!(whole > 0)) return 0;
  return whole >= 4294967296.0f ? 4294967295u : static_cast<unsigned>(whole);
}
inline int __float2int_rn(float a) { return emulated_to_int(rintf(a)); }
inline int __float2int_rz(float a) { return emulated_to_int(truncf(a)); }
inline int __float2int_rd(float a) { return emulated_to_int(floorf(a)); }
inline int __float2int_ru(float a) { return emulated_to_int(ceilf(a)); }
inline unsigned __float2uint_rn(float a) { return emulated_to_uint(rintf(a)); }
inline unsigned __float2uint_rz(float a) { return emulated_to_uint(truncf(a)); }

template <class To, class From>
inline To emulated_bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "bits of another size");
  To bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __int_as_float(int a) { return emulated_bits<float>(a); }
inline float __uint_as_float(unsigned a) { return emulated_bits<float>(a); }
inline int __float_as_int(float a) { return emulated_bits<int>(a); }
inline unsigned __float_as_uint(float a) { return emulated_bits<unsigned>(a); }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __clz(int a) { return a ? __builtin_clz(static_cast<unsigned>(a)) : 32; }
inline int __mulhi(int a, int b) { return static_cast<int>((static_cast<long long>(a) * b) >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline int __dp4a(int a, int b, int c) { return emulated::dp4a<int8_t, int8_t>(a, b, c); }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  return static_cast<unsigned>(emulated::dp4a<uint8_t, uint8_t>(a, b, static_cast<int>(c)));
}
template <class T>
inline T __ldg(const T *pointer) {
  return *pointer;
}

/* The threads of a block. */
inline void __syncthreads() { emulated::reach_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulated::meet_all(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline int atomicAdd(int *to, int value) {
  int before = *to;
  *to = static_cast<int>(static_cast<unsigned>(before) + static_cast<unsigned>(value));
  return before;
}
inline int atomicMax(int *to, int value) {
  int before = *to;
  *to = max(before, value);
  return before;
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return emulated::exchange(emulated::XOR, mask, value, lanes, width);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, int lanes, int width = 32) {
  return emulated::exchange(emulated::DOWN, mask, value, lanes, width);
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return emulated::exchange(emulated::FROM, mask, value, lane, width);
}

/* Instructions. */
inline void emulated_ldmatrix_x4(uint32_t &r0, uint32_t &r1, uint32_t &r2, uint32_t &r3,
                                 const void *pointer) {
  emulated::need_shared(pointer, "ldmatrix");
  emulated::Rows lane = {pointer, {}};
  emulated::meet(emulated::ldmatrix_x4, &lane);
  r0 = lane.to[0], r1 = lane.to[1], r2 = lane.to[2], r3 = lane.to[3];
}
inline void emulated_mma(emulated::Collective what, int &d0, int &d1, int &d2, int &d3, uint32_t a0,
                         uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  emulated::Fragments lane = {{a0, a1, a2, a3}, {b0, b1}, {d0, d1, d2, d3}};
  emulated::meet(what, &lane);
  d0 = lane.d[0], d1 = lane.d[1], d2 = lane.d[2], d3 = lane.d[3];
}
/* m16n8k32, u8 by s8. */
inline void emulated_mma_u8s8(int &d0, int &d1, int &d2, int &d3, uint32_t a0, uint32_t a1,
                              uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  emulated_mma(emulated::mma_u8s8, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1);
}
/* m16n8k64, u4 by s4. */
inline void emulated_mma_u4s4(int &d0, int &d1, int &d2, int &d3, uint32_t a0, uint32_t a1,
                              uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  emulated_mma(emulated::mma_u4s4, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1);
}
inline int emulated_dp4a_u8s8(uint32_t a, uint32_t b, int c) {
  return emulated::dp4a<uint8_t, int8_t>(a, b, c);
}
inline void emulated_copy16(void *to, const void *from) { emulated::copy_async(to, from, 16, 16); }
/* cp.async of 8 bytes, twice; of 4 bytes. */
inline void emulated_copy8x2(void *to, const void *from) { emulated::copy_async(to, from, 16, 8); }
inline void emulated_copy4(void *to, const void *from) { emulated::copy_async(to, from, 4, 4); }
inline void emulated_commit() { emulated::commit_copies(); }
inline void emulated_wait(size_t left) { emulated::wait_for_copies(left); }

/* The table that the driver reads; library.py writes its rows after the text. */
namespace emulated {
template <auto kernel, class... T, size_t... i>
void call(void (*)(T *...), void *const *values, std::index_sequence<i...>) {
  kernel(static_cast<T *>(values[i])...);
}
template <auto kernel, int parameters, class... T>
constexpr Kernel row(const char *name, void (*)(T *...)) {
  static_assert(sizeof...(T) == parameters, "the kernel has another number of parameters");
  static_assert(parameters <= MOST_PARAMETERS, "the kernel has too many parameters");
  return {name, parameters, [](void *const *values) {
            call<kernel>(kernel, values, std::make_index_sequence<sizeof...(T)>());
          }};
}
} // namespace emulated
extern "C" __attribute__((visibility("hidden"))) char __start_emulated_shared[],
    __stop_emulated_shared[]; /* the linker's */
__attribute__((used)) __shared__ __align__(16) char emulated_some_shared[16];
