// IndexClient: what a client does with a namespace's index: map it, and map it again when it is
// superseded.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "lib/format/geometry.h"
#include "lib/format/index_view.h"

namespace kvfs::store {

// Threads: one. Owns: its mapping. Blocks: in `open`, when the index was superseded.
// Errors:  as failed expectations.
class IndexClient {
 public:
  struct File {
    int fd;
    std::uint64_t bytes;
  };
  // `open` calls what it is given with the file of now, which stays open for as long: what an open
  // through the mount is.
  using Open = std::function<void(const std::function<void(File)>& map)>;

  IndexClient(const Geometry& geometry, Open open) : geometry_(geometry), open_(std::move(open)) {
    reopen();
  }
  ~IndexClient() { close(); }
  IndexClient(const IndexClient&) = delete;
  IndexClient& operator=(const IndexClient&) = delete;

  const IndexView& view() {
    if (view_.superseded()) reopen();
    return view_;
  }

 private:
  void reopen() {
    close();
    open_([this](File file) {
      bytes_ = file.bytes;
      memory_ = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file.fd, 0);
    });
    ASSERT_NE(memory_, MAP_FAILED);
    const Result<IndexView> view =
        IndexView::attach({static_cast<const std::byte*>(memory_), bytes_}, geometry_);
    ASSERT_TRUE(view) << view.error().message;
    view_ = *view;
  }
  void close() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
  }

  const Geometry& geometry_;
  const Open open_;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  IndexView view_;
};

}  // namespace kvfs::store
