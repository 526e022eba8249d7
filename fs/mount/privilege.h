#pragma once

namespace kvfs::mount {

// Whether the kernel lets this process register files for passthrough: CAP_SYS_ADMIN outside of any
// user namespace.
bool may_pass_through();

}  // namespace kvfs::mount
