// A file system whose writes can be made to hang.
#pragma once

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "fs/unique_fd.h"

namespace kvfs::test {

// An ext4 of its own in a file, frozen so that writes hang in the kernel where no cancel reaches
// them.
class FrozenFileSystem {
 public:
  explicit FrozenFileSystem(const std::string& directory) : point_(directory + "/ext4") {
    const std::string image = directory + "/image";
    std::filesystem::create_directory(point_);
    mounted_ = std::system(("truncate -s 128M " + image + " && mkfs.ext4 -q " + image +
                            " && mount -o loop " + image + " " + point_ + " 2>/dev/null")
                               .c_str()) == 0;
    if (mounted_) fd_ = UniqueFd(::open(point_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~FrozenFileSystem() {
    thaw();
    fd_.reset();
    if (mounted_) ::umount2(point_.c_str(), MNT_DETACH);
  }
  [[nodiscard]] bool freeze() { return frozen_ = ::ioctl(fd_.get(), FIFREEZE, 0) == 0; }
  void thaw() {
    if (std::exchange(frozen_, false)) ::ioctl(fd_.get(), FITHAW, 0);
  }
  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] const std::string& point() const { return point_; }

 private:
  std::string point_;
  bool mounted_ = false;
  bool frozen_ = false;
  UniqueFd fd_;
};

}  // namespace kvfs::test
