/* CUDA texts include <cuda.h>; what they need of it stands in cuda_on_cpu.h. */
