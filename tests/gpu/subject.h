// A device under test.
#pragma once

#include <memory>
#include <string>

#include "gpu/device.h"
#include "tests/gpu/engine_memory.h"

namespace kvfs::gpu::test {

// A device to test, with the memory it reaches.
struct Subject {
  std::unique_ptr<Device> device;
  Where where;
};
// kUnavailable: not on this machine.
Result<Subject> make_subject(const std::string& name);

}  // namespace kvfs::gpu::test
