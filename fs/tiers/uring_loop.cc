#include "fs/tiers/uring_loop.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace kvfs::tiers {
namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::uint32_t kMaxFiles = 16384;
constexpr std::chrono::milliseconds kPause{1};

// user_data of requests that are not pieces.
char wakeup_tag;
char cancel_tag;

}  // namespace

UringQueue::Loop::Loop(const UringOptions& options, IoCounters& counters)
    : options_(options), counters_(counters), pieces_(std::max(1U, options.depth)) {
  for (Piece& piece : pieces_) free_pieces_.push_back(&piece);
}

UringQueue::Loop::~Loop() {
  if (!thread_.joinable()) return;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

Status UringQueue::Loop::start() {
  wakeup_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!wakeup_.valid()) return fail_errno(errno, "eventfd");
  std::promise<Status> started;
  std::future<Status> result = started.get_future();
  thread_ = std::thread([this, &started] { run(started); });
  Status status = result.get();
  if (!status) thread_.join();
  return status;
}

// A ring with DEFER_TASKRUN belongs to the thread that made it.
Status UringQueue::Loop::open_ring() {
  const unsigned entries = 2 * options_.depth + 8;  // pieces, cancels and the wakeup at once
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
  return {};
}

void UringQueue::Loop::run(std::promise<Status>& started) {
  ::pthread_setname_np(::pthread_self(), options_.name.substr(0, 15).c_str());
  Status opened = open_ring();
  const bool ok = opened.has_value();
  started.set_value(std::move(opened));
  if (!ok) return;
  arm_wakeup();
  while (take_incoming()) {
    issue();
    tell();
    wait();
    reap();
    expire();
  }
  ::io_uring_queue_exit(&ring_);
}

IoOperation* UringQueue::Loop::fresh() {
  const MutexLock lock(mutex_);
  if (free_.empty()) return &pool_.emplace_back();
  IoOperation* operation = free_.back();
  free_.pop_back();
  return operation;
}

void UringQueue::Loop::submit(IoOperation* operation) {
  operation->deadline = Clock::now() + options_.timeout;
  if (operation->done) counters_.queued.fetch_add(1, std::memory_order_relaxed);
  bool asleep = false;
  {
    const MutexLock lock(mutex_);
    incoming_.push_back(operation);
    asleep = std::exchange(asleep_, false);
  }
  if (asleep) wake();
}

void UringQueue::Loop::wake() {
  // Fails only at 2^64 - 1 wakeups not yet read.
  (void)::eventfd_write(wakeup_.get(), 1);
}

bool UringQueue::Loop::take_incoming() {
  ReadyList incoming;
  bool stopping = false;
  {
    const MutexLock lock(mutex_);
    incoming = std::exchange(incoming_, {});
    free_.insert(free_.end(), ended_.begin(), ended_.end());
    stopping = stopping_;
  }
  ended_.clear();
  if (incoming.empty() && stopping && under_way_ == 0) return false;
  while (!incoming.empty()) {
    IoOperation* operation = incoming.front();
    incoming.pop_front();
    accept(operation);
  }
  return true;
}

void UringQueue::Loop::accept(IoOperation* operation) {
  const std::span memory(operation->memory, operation->bytes);
  ++under_way_;
  switch (operation->kind) {
    case IoKind::kRead:
    case IoKind::kWrite:
      active_.push_back(operation);
      ready_of(*operation).push_back(operation);
      return;
    case IoKind::kAddMemory:
      buffers_.add(memory);
      break;
    case IoKind::kRemoveMemory:
      buffers_.remove(memory);
      break;
    case IoKind::kForgetFile:
      forget(*operation->file);
      break;
    case IoKind::kFail:
      break;
  }
  end(operation);
}

UringQueue::Loop::Piece* UringQueue::Loop::next_piece() {
  if (!again_.empty()) {
    Piece* piece = again_.back();
    again_.pop_back();
    return piece;
  }
  while (!free_pieces_.empty() && !(reads_.empty() && writes_.empty())) {
    const bool write = reads_.empty() || (!writes_.empty() && ++turn_ % 4 == 0);
    ReadyList& ready = write ? writes_ : reads_;
    IoOperation* operation = ready.front();
    if (!operation->status) {  // it failed: no more of it
      ready.pop_front();
      operation->issued = operation->bytes;
      end_if_over(operation);
      continue;
    }
    Piece* piece = free_pieces_.back();
    free_pieces_.pop_back();
    piece->operation = operation;
    piece->at = operation->issued;
    piece->bytes = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(options_.piece_bytes, operation->bytes - operation->issued));
    operation->issued += piece->bytes;
    ++operation->pieces;
    if (operation->issued == operation->bytes) {
      ready.pop_front();
      if (piece->bytes == operation->bytes) merge(*piece, ready);
    }
    return piece;
  }
  return nullptr;
}

// Devices like large requests, and a prefix's blocks tend to lie behind one another.
void UringQueue::Loop::merge(Piece& piece, ReadyList& ready) const {
  const IoOperation& first = *piece.operation;
  IoOperation* last = piece.operation;
  while (!ready.empty() && !first.alone) {
    IoOperation* next = ready.front();
    if (next->alone || !next->status || next->issued != 0 || next->file != first.file ||
        next->offset != first.offset + piece.bytes || next->memory != first.memory + piece.bytes ||
        next->bytes > options_.piece_bytes - piece.bytes) {
      return;
    }
    ready.pop_front();
    next->issued = next->bytes;
    ++next->pieces;
    piece.bytes += static_cast<std::uint32_t>(next->bytes);
    last->next_merged = next;
    last = next;
  }
}

void UringQueue::Loop::issue() {
  if (std::exchange(pause_, false)) return;
  while (Piece* piece = next_piece()) {
    IoOperation& operation = *piece->operation;
    if (!operation.status) {  // it failed while this waited to go again
      operation.next_merged == nullptr ? settle(piece) : part(piece);
      continue;
    }
    std::byte* memory = operation.memory + piece->at;
    const std::uint64_t offset = operation.offset + piece->at;
    const int buffer = buffers_.find(memory, piece->bytes);
    const int fd = operation.file->fd.get();
    io_uring_sqe* request = sqe();
    if (operation.kind == IoKind::kRead) {
      if (buffer >= 0) {
        ::io_uring_prep_read_fixed(request, fd, memory, piece->bytes, offset, buffer);
      } else {
        ::io_uring_prep_read(request, fd, memory, piece->bytes, offset);
      }
    } else {
      if (buffer >= 0) {
        ::io_uring_prep_write_fixed(request, fd, memory, piece->bytes, offset, buffer);
      } else {
        ::io_uring_prep_write(request, fd, memory, piece->bytes, offset);
      }
    }
    use_file(request, *operation.file);
    ::io_uring_sqe_set_data(request, piece);
    piece->at_device = true;
  }
}

io_uring_sqe* UringQueue::Loop::sqe() {
  io_uring_sqe* request = ::io_uring_get_sqe(&ring_);
  while (request == nullptr) {
    ::io_uring_submit(&ring_);
    request = ::io_uring_get_sqe(&ring_);
  }
  return request;
}

void UringQueue::Loop::use_file(io_uring_sqe* request, IoFile& file) {
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

void UringQueue::Loop::forget(IoFile& file) {
  if (file.table_index < 0) return;
  const int none = -1;
  const int index = std::exchange(file.table_index, -1);
  if (::io_uring_register_files_update(&ring_, static_cast<unsigned>(index), &none, 1) == 1) {
    free_files_.push_back(index);
  }
}

void UringQueue::Loop::arm_wakeup() {
  io_uring_sqe* request = sqe();
  ::io_uring_prep_read(request, wakeup_.get(), &wakeup_value_, sizeof(wakeup_value_), 0);
  ::io_uring_sqe_set_data(request, &wakeup_tag);
}

__kernel_timespec UringQueue::Loop::longest_wait() const {
  auto left = Clock::duration(std::chrono::hours(1));
  if (!active_.empty()) left = std::min(left, active_.front()->deadline - Clock::now());
  if (!again_.empty()) left = std::min<Clock::duration>(left, kPause);
  const auto nanoseconds =
      std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::nanoseconds>(left).count());
  return {.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
}

void UringQueue::Loop::wait() {
  __kernel_timespec limit = longest_wait();
  {
    const MutexLock lock(mutex_);
    const bool over = stopping_ && under_way_ == 0;
    asleep_ = incoming_.empty() && !over;
    if (!asleep_) limit = {};  // hand over what is prepared and come back
  }
  io_uring_cqe* first = nullptr;
  // Its errors (time is up, interrupted) show in what reap() and expire() find.
  (void)::io_uring_submit_and_wait_timeout(&ring_, &first, 1, &limit, nullptr);
  const MutexLock lock(mutex_);
  asleep_ = false;
}

void UringQueue::Loop::reap() {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* completion = nullptr;
  io_uring_for_each_cqe(&ring_, head, completion) {
    ++count;
    void* data = ::io_uring_cqe_get_data(completion);
    if (data == &wakeup_tag) {
      arm_wakeup();
    } else if (data != &cancel_tag) {
      finish_piece(static_cast<Piece*>(data), completion->res);
    }
  }
  ::io_uring_cq_advance(&ring_, count);
}

void UringQueue::Loop::expire() {
  const auto now = Clock::now();
  bool any = false;
  while (!active_.empty() && active_.front()->deadline <= now) {
    IoOperation* operation = active_.front();
    active_.remove(operation);
    operation->expired = any = true;
    if (operation->status) {
      operation->status =
          fail(Code::kTimeout, fmt::format("{} did not answer within {} ms", operation->file->path,
                                           options_.timeout.count()));
    }
  }
  if (!any) return;
  for (const Piece& piece : pieces_) {
    if (!piece.at_device || !piece.operation->expired) continue;
    io_uring_sqe* request = sqe();
    ::io_uring_prep_cancel64(request, reinterpret_cast<std::uintptr_t>(&piece), 0);
    ::io_uring_sqe_set_data(request, &cancel_tag);
  }
  // Lists are in the order of the deadlines: what has expired and was not issued is in front.
  drop_expired(reads_);
  drop_expired(writes_);
}

void UringQueue::Loop::drop_expired(ReadyList& ready) {
  while (!ready.empty() && ready.front()->expired) {
    IoOperation* operation = ready.front();
    ready.pop_front();
    operation->issued = operation->bytes;
    end_if_over(operation);
  }
}

void UringQueue::Loop::finish_piece(Piece* piece, int result) {
  IoOperation& operation = *piece->operation;
  piece->at_device = false;
  const bool interrupted = result == -EINTR || result == -EAGAIN;
  const bool partial = result > 0 && result < static_cast<int>(piece->bytes) &&
                       static_cast<std::uint64_t>(result) % kSector == 0;
  if (operation.status && (interrupted || partial)) {
    if (partial) {
      piece->at += static_cast<std::uint64_t>(result);
      piece->bytes -= static_cast<std::uint32_t>(result);
    }
    pause_ = pause_ || result == -EAGAIN;
    again_.push_back(piece);
    return;
  }
  const bool whole = result == static_cast<int>(piece->bytes);
  if (!whole && operation.next_merged != nullptr) {
    part(piece);
    return;
  }
  if (!whole && operation.status) {
    const auto what = fmt::format("{} {} bytes at {} of {}",
                                  operation.kind == IoKind::kRead ? "reading" : "writing",
                                  piece->bytes, operation.offset + piece->at, operation.file->path);
    operation.status = result < 0 ? fail_errno(-result, what)
                                  : fail(Code::kIo, fmt::format("{}: only {} came", what, result));
  }
  settle(piece);
}

// Frees the piece; its operations are done unless others of their pieces are out.
void UringQueue::Loop::settle(Piece* piece) {
  IoOperation* operation = std::exchange(piece->operation, nullptr);
  free_pieces_.push_back(piece);
  while (operation != nullptr) {
    IoOperation* next = std::exchange(operation->next_merged, nullptr);
    --operation->pieces;
    end_if_over(operation);
    operation = next;
  }
}

// Of operations that went together one may be bad: each goes again by itself, in the same order.
void UringQueue::Loop::part(Piece* piece) {
  IoOperation* operation = std::exchange(piece->operation, nullptr);
  free_pieces_.push_back(piece);
  IoOperation* reversed = nullptr;
  while (operation != nullptr) {
    IoOperation* next = std::exchange(operation->next_merged, reversed);
    reversed = std::exchange(operation, next);
  }
  while (reversed != nullptr) {
    IoOperation* next = std::exchange(reversed->next_merged, nullptr);
    --reversed->pieces;
    if (reversed->status) {
      reversed->issued = 0;
      reversed->alone = true;
      ready_of(*reversed).push_front(reversed);
    } else {
      end_if_over(reversed);
    }
    reversed = next;
  }
}

void UringQueue::Loop::end_if_over(IoOperation* operation) {
  if (operation->pieces != 0 || operation->issued != operation->bytes) return;
  if (operation->kind == IoKind::kWrite) operation->file->unsynced = true;
  if (!std::exchange(operation->expired, false)) active_.remove(operation);
  end(operation);
}

void UringQueue::Loop::end(IoOperation* operation) { over_.push_back(operation); }

// What the pieces that came back have made room for goes to the device first: whoever is told has
// work to do, perhaps on this processor, and a virtual disk may have answered all that it had.
void UringQueue::Loop::tell() {
  if (over_.empty()) return;
  ::io_uring_submit(&ring_);
  while (!over_.empty()) {
    IoOperation* operation = over_.front();
    over_.pop_front();
    tell(operation);
  }
}

void UringQueue::Loop::tell(IoOperation* operation) {
  IoDone done = std::exchange(operation->done, nullptr);
  Status status = std::exchange(operation->status, Status());
  if (done) {
    if (!status) {
      counters_.errors.fetch_add(1, std::memory_order_relaxed);
    } else if (operation->kind == IoKind::kRead) {
      counters_.reads.fetch_add(1, std::memory_order_relaxed);
      counters_.bytes_read.fetch_add(operation->bytes, std::memory_order_relaxed);
    } else {
      counters_.writes.fetch_add(1, std::memory_order_relaxed);
      counters_.bytes_written.fetch_add(operation->bytes, std::memory_order_relaxed);
    }
    counters_.queued.fetch_sub(1, std::memory_order_relaxed);
  }
  operation->file.reset();
  operation->issued = 0;
  operation->alone = false;
  ended_.push_back(operation);
  --under_way_;
  if (done) done(std::move(status));
}

}  // namespace kvfs::tiers
