#include "fs/tiers/uring_ring.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace kvfs::tiers {
namespace {

constexpr std::uint32_t kMaxFiles = 16384;

}  // namespace

Status UringRing::open(std::uint32_t depth, int wakeup) {
  const unsigned entries = 2 * depth + 8;
  int error = 0;
  for (const unsigned flags :
       {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CLAMP,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP, 0U}) {
    error = -::io_uring_queue_init(entries, &ring_, flags);
    if (error != EINVAL) break;
  }
  if (error != 0) {
    return fail(Code::kUnavailable,
                fmt::format("io_uring is not to be had ({}): allow it (sysctl "
                            "kernel.io_uring_disabled=0, or the container's seccomp profile)",
                            std::generic_category().message(error)));
  }
  buffers_.open(ring_);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const auto table = static_cast<unsigned>(std::min<rlim_t>(files.rlim_cur, kMaxFiles));
  if (::io_uring_register_files_sparse(&ring_, table) == 0) {
    for (unsigned index = table; index-- > 0;) free_files_.push_back(static_cast<int>(index));
  }
  wakeup_ = wakeup;
  watch_wakeup();
  return {};
}

void UringRing::close() { ::io_uring_queue_exit(&ring_); }

void UringRing::read(IoFile& file, std::uint64_t offset, std::span<std::byte> memory, void* tag) {
  prepare(IORING_OP_READ, IORING_OP_READ_FIXED, file, offset, memory, tag);
}

void UringRing::write(IoFile& file, std::uint64_t offset, std::span<const std::byte> memory,
                      void* tag) {
  prepare(IORING_OP_WRITE, IORING_OP_WRITE_FIXED, file, offset, memory, tag);
}

void UringRing::prepare(io_uring_op op, io_uring_op of_registered, IoFile& file,
                        std::uint64_t offset, std::span<const std::byte> memory, void* tag) {
  const int buffer = buffers_.find(memory.data(), memory.size());
  io_uring_sqe* request = next_request();
  ::io_uring_prep_rw(buffer >= 0 ? of_registered : op, request, file.fd.get(), memory.data(),
                     static_cast<unsigned>(memory.size()), offset);
  if (buffer >= 0) request->buf_index = static_cast<std::uint16_t>(buffer);
  set_file(request, file);
  ::io_uring_sqe_set_data(request, tag);
}

void UringRing::cancel(void* tag) {
  io_uring_sqe* request = next_request();
  ::io_uring_prep_cancel(request, tag, 0);
  ::io_uring_sqe_set_data(request, nullptr);
}

void UringRing::wait(__kernel_timespec limit) {
  io_uring_cqe* first = nullptr;
  // Its errors (time is up, interrupted) show in what the caller finds.
  (void)::io_uring_submit_and_wait_timeout(&ring_, &first, 1, &limit, nullptr);
}

void UringRing::forget(IoFile& file) {
  if (file.table_index < 0) return;
  const int none = -1;
  const int index = std::exchange(file.table_index, -1);
  if (::io_uring_register_files_update(&ring_, static_cast<unsigned>(index), &none, 1) == 1) {
    free_files_.push_back(index);
  }
}

io_uring_sqe* UringRing::next_request() {
  io_uring_sqe* request = ::io_uring_get_sqe(&ring_);
  while (request == nullptr) {
    submit();
    request = ::io_uring_get_sqe(&ring_);
  }
  return request;
}

void UringRing::set_file(io_uring_sqe* request, IoFile& file) {
  if (file.table_index < 0 && !free_files_.empty()) {
    const int fd = file.fd.get();
    const int index = free_files_.back();
    if (::io_uring_register_files_update(&ring_, static_cast<unsigned>(index), &fd, 1) == 1) {
      free_files_.pop_back();
      file.table_index = index;
    }
  }
  if (file.table_index < 0) return;
  request->fd = file.table_index;
  request->flags |= IOSQE_FIXED_FILE;
}

void UringRing::watch_wakeup() {
  io_uring_sqe* request = next_request();
  ::io_uring_prep_read(request, wakeup_, &wakeup_value_, sizeof(wakeup_value_), 0);
  ::io_uring_sqe_set_data(request, &wakeup_value_);
}

}  // namespace kvfs::tiers
