#include "lib/client/gpu_slab.h"

#include <fcntl.h>

#include <cerrno>
#include <span>
#include <string>
#include <utility>

#include "lib/client/errors.h"
#include "lib/client/file_io.h"

namespace kvfs::client {

Result<std::shared_ptr<GpuSlab>> GpuSlab::open(int directory, std::uint32_t id,
                                               std::uint64_t slot_bytes, gpu::Device& device) {
  const std::string path = ".kvfs/slabs/" + std::to_string(id);
  const std::string what = "GPU slab " + std::to_string(id);
  Descriptor file(::openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return mount_error(errno, what);
  gpu::SharedHandle handle;
  Status status = read_at(file.get(), std::as_writable_bytes(std::span(&handle, 1)), 0, what);
  if (!status) return pass(std::move(status));
  if (handle.magic != gpu::kSharedMagic) {
    return fail(Code::kCorrupt, what + " says nothing of a GPU's memory: use a client and a " +
                                    "daemon of the same release");
  }
  Result<std::unique_ptr<gpu::MappedMemory>> memory = device.map(handle);
  if (!memory) return pass(std::move(memory));
  return std::make_shared<GpuSlab>(std::move(file), std::move(*memory), handle.bytes, slot_bytes);
}

}  // namespace kvfs::client
