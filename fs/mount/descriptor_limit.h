#pragma once

namespace kvfs::mount {

// As many descriptors as the system lets this process have: every segment of the NVMe tier, slab
// and open plain file is one.
void raise_descriptor_limit();

}  // namespace kvfs::mount
