// The kernels' machine code, part of the library.
#include "gpu/cuda_code.h"

// NOLINTNEXTLINE(hicpp-no-assembler)
asm(".section .rodata\n"
    ".balign 16\n"
    ".hidden kvfs_cuda_code\n"
    ".global kvfs_cuda_code\n"
    "kvfs_cuda_code:\n"
    ".incbin \"" KVFS_FATBIN_PATH
    "\"\n"
    ".previous\n");
extern "C" [[gnu::visibility("hidden")]] const unsigned char kvfs_cuda_code[];

namespace kvfs::gpu {

const void* cuda_code() { return kvfs_cuda_code; }

}  // namespace kvfs::gpu
