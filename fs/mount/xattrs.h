// Extended attributes user.kvfs.*.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fs/mount/inode.h"
#include "fs/mount/to_errno.h"

namespace kvfs::mount {

// The outcome of an attribute call: what it gives, or the errno to answer with.
template <typename T>
using XattrResult = tl::expected<T, int>;

// Names, each ended by a zero byte, as listxattr(2) gives them.
XattrResult<std::string> list_xattrs(const Inode& inode);
// kNoAttribute for what the file does not have (now).
XattrResult<std::string> get_xattr(const Inode& inode, std::string_view name);
// user.kvfs.pinned takes "0" or "1", user.kvfs.label any text; the others are the store's to say.
XattrResult<void> set_xattr(const Inode& inode, std::string_view name, std::string_view value,
                            int flags);
XattrResult<void> remove_xattr(const Inode& inode, std::string_view name);

}  // namespace kvfs::mount
