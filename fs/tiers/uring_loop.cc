#include "fs/tiers/uring_loop.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace kvfs::tiers {
namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::chrono::milliseconds kPause{1};

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

void UringQueue::Loop::run(std::promise<Status>& started) {
  ::pthread_setname_np(::pthread_self(), options_.name.substr(0, 15).c_str());
  Status opened = ring_.open(options_.depth, wakeup_.get());
  const bool ok = opened.has_value();
  started.set_value(std::move(opened));
  if (!ok) return;
  while (take_incoming()) {
    issue();
    tell();
    wait();
    reap();
    expire();
  }
  ring_.close();
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
      ring_.add_memory(memory);
      break;
    case IoKind::kRemoveMemory:
      ring_.remove_memory(memory);
      break;
    case IoKind::kForgetFile:
      ring_.forget(*operation->file);
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
    const std::span memory(operation.memory + piece->at, piece->bytes);
    const std::uint64_t offset = operation.offset + piece->at;
    operation.kind == IoKind::kRead ? ring_.read(*operation.file, offset, memory, piece)
                                    : ring_.write(*operation.file, offset, memory, piece);
    piece->at_device = true;
  }
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
  ring_.wait(limit);
  const MutexLock lock(mutex_);
  asleep_ = false;
}

void UringQueue::Loop::reap() {
  ring_.reap([this](void* piece, int result) { finish_piece(static_cast<Piece*>(piece), result); });
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
  for (Piece& piece : pieces_) {
    if (piece.at_device && piece.operation->expired) ring_.cancel(&piece);
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
  ring_.submit();
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
