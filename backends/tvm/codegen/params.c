/* The parameters as read-only data of the library: params.bin beside this file. */
__asm__(".pushsection .rodata.gmpq_params, \"a\"\n"
        ".balign 64\n"
        "gmpq_params_data:\n"
        ".incbin \"params.bin\"\n"
        ".popsection\n");

extern const unsigned char gmpq_params_data[] __attribute__((visibility("hidden")));

/* A function, not the array: programs would get a copy of an array of a shared library. */
const void *ENTRY(params)(void) { return gmpq_params_data; }
