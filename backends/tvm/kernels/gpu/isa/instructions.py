"""Device functions of one instruction each: inline PTX, and a call of the emulation on a CPU.

Two bodies of one name cannot be in one text: constants are part of the name. Sources: PTX ISA,
"mma", "ldmatrix", "cp.async", "dp4a"; CUDA Math API for the conversions.
"""

from __future__ import annotations

from gmpq.ir import QParams


def _two(signature: str, ptx: str, emulated: str) -> str:
    return f"""
__device__ __forceinline__ {signature} {{
#ifdef GMPQ_EMULATED
  {emulated}
#else
  {ptx}
#endif
}}
"""


def _one(signature: str, body: str) -> str:
    return f"\n__device__ __forceinline__ {signature} {{\n  {body}\n}}\n"


SHARED = "(unsigned)__cvta_generic_to_shared"
LDMATRIX = _two(
    "void ldmatrix_x4(unsigned &r0, unsigned &r1, unsigned &r2, unsigned &r3, const void *p)",
    'asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" '
    f': "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3) : "r"({SHARED}(p)));',
    "emulated_ldmatrix_x4(r0, r1, r2, r3, p);",
)
COPY16 = _two(
    "void copy16(void *to, const void *from)",
    'asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" '
    f':: "r"({SHARED}(to)), "l"(from) : "memory");',
    "emulated_copy16(to, from);",
)
COPY4X4 = _two(
    "void copy4x4(void *to, const void *from)",
    f"unsigned at = {SHARED}(to); const char *p = (const char *)from;\n  "
    + "\n  ".join(
        f'asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" '
        f':: "r"(at + {i}), "l"(p + {i}) : "memory");'
        for i in range(0, 16, 4)
    ),
    "for (int i = 0; i < 16; i += 4) emulated_copy4((char *)to + i, (const char *)from + i);",
)
COMMIT = _two(
    "void commit()", 'asm volatile("cp.async.commit_group;" ::: "memory");', "emulated_commit();"
)
# Weights of four bits: each half of a byte becomes the high half of a byte.
HALVES = _one(
    "void halves(unsigned &low, unsigned &high, unsigned word)",
    "low = (word << 4) & 0xf0f0f0f0u; high = word & 0xf0f0f0f0u;",
)
STORE16 = _one(
    "void store16(void *p, unsigned a, unsigned b, unsigned c, unsigned d)",
    "*(uint4 *)p = make_uint4(a, b, c, d);",
)
STORE8 = _one("void store8(void *p, unsigned a, unsigned b)", "*(uint2 *)p = make_uint2(a, b);")
LOAD16 = _one(
    "void load16(unsigned &a, unsigned &b, unsigned &c, unsigned &d, const void *p)",
    "uint4 v = *(const uint4 *)p; a = v.x; b = v.y; c = v.z; d = v.w;",
)
LOAD4X4 = _one(
    "void load4x4(unsigned &a, unsigned &b, unsigned &c, unsigned &d, const void *p)",
    "const unsigned *v = (const unsigned *)p; a = v[0]; b = v[1]; c = v[2]; d = v[3];",
)
MMA_SIGNATURE = (
    "(int &d0, int &d1, int &d2, int &d3, unsigned a0, unsigned a1, unsigned a2, unsigned a3, "
    "unsigned b0, unsigned b1)"
)
MMA_U8S8 = _two(
    f"void mma_u8s8{MMA_SIGNATURE}",
    'asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, '
    '{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+r"(d0), "+r"(d1), "+r"(d2), "+r"(d3) '
    ': "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));',
    "emulated_mma_u8s8(d0, d1, d2, d3, a0, a1, a2, a3, b0, b1);",
)
# m16n8k32 is four m8n8k16 of the same registers, which is all that sm_75 has.
MMA_U8S8_SMALL = _two(
    f"void mma_u8s8_small{MMA_SIGNATURE}",
    "\n  ".join(
        'asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1}, {%2}, {%3}, '
        f'{{%0,%1}};" : "+r"({d}), "+r"({e}) : "r"({a}), "r"({b}));'
        for d, e, a, b in (
            *(("d0", "d1", "a0", "b0"), ("d2", "d3", "a1", "b0")),
            *(("d0", "d1", "a2", "b1"), ("d2", "d3", "a3", "b1")),
        )
    ),
    "emulated_mma_u8s8(d0, d1, d2, d3, a0, a1, a2, a3, b0, b1);",
)
DP4A = _two(
    "int dp4a_u8s8(unsigned codes, unsigned weights, int sum)",
    'int d; asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(codes), "r"(weights), "r"(sum)); '
    "return d;",
    "for (int i = 0; i < 4; i++) sum += (int)(unsigned char)(codes >> 8 * i) * "
    "(signed char)(weights >> 8 * i);\n  return sum;",
)
PRODUCT = _one(
    "float rescaled(int sum, float factor)", "return __fmul_rn(__int2float_rn(sum), factor);"
)
QUOTIENT = _one("float quotient(float a, float b)", "return __fdiv_rn(a, b);")


def wait(left: int) -> tuple[str, str]:
    """Return name and source of the wait until at most ``left`` groups of copies are under way."""
    ptx = f'asm volatile("cp.async.wait_group {left};" ::: "memory");'
    return f"wait_{left}", _two(f"void wait_{left}()", ptx, f"emulated_wait({left});")


def requantized(q: QParams) -> tuple[str, str]:
    """Return name and source of ``clip(round_half_even(sum * factor) + zero_point)``, an int."""
    low, high, zero = q.low, q.high, q.zero_point
    name = f"code_{low}_{high}_{zero}"
    body = (
        "int step = __float2int_rn(__fmul_rn(__int2float_rn(sum), factor));\n"
        f"  return min(max(step, {low - zero}), {high - zero}) + {zero};"
    )
    return name, _one(f"int {name}(int sum, float factor)", body)


def quantized(q: QParams) -> tuple[str, str]:
    """Return name and source of the code of a float32 quotient, an int; NaN becomes the lowest."""
    low, high, zero = q.low, q.high, q.zero_point
    name = f"quantized_{low}_{high}_{zero}"
    body = (
        f"return __float2int_rn(fminf(fmaxf(steps, {low - zero}.0f), {high - zero}.0f)) + {zero};"
    )
    return name, _one(f"int {name}(float steps)", body)
