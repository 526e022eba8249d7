// What a UringQueue has to do: one block's read or write, or a change of what its ring has
// registered.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "fs/tiers/block_tier.h"
#include "fs/tiers/io_file.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

enum class IoKind : std::uint8_t {
  kRead,
  kWrite,
  kFail,       // only tells `done` its `status`, on the queue's thread
  kAddMemory,  // register
  kRemoveMemory,
  kForgetFile,  // drop from the ring's file table
};

// Threads: belongs to whoever holds it: the submitter, then the queue's thread.
// Owns:    a share of the file; the memory is the caller's until `done`.
struct IoOperation {
  IoKind kind = IoKind::kFail;
  std::shared_ptr<IoFile> file;
  std::uint64_t offset = 0;
  std::byte* memory = nullptr;
  std::uint64_t bytes = 0;
  IoDone done;

  Status status;             // the first error
  std::uint64_t issued = 0;  // bytes that have become pieces
  std::uint32_t pieces = 0;  // pieces not finished, at the device or waiting to go again
  std::chrono::steady_clock::time_point deadline;
  bool expired = false;                // past the deadline, and so in no ActiveList
  bool alone = false;                  // failed together with others: not merged again
  IoOperation* next_merged = nullptr;  // goes to the device in the same piece
  IoOperation* next_ready = nullptr;
  IoOperation* next_active = nullptr;
  IoOperation* previous_active = nullptr;
};

// Operations in the order they came, by their `next_ready`.
class ReadyList {
 public:
  [[nodiscard]] bool empty() const { return head_ == nullptr; }
  [[nodiscard]] IoOperation* front() const { return head_; }
  void push_back(IoOperation* operation) {
    operation->next_ready = nullptr;
    (head_ == nullptr ? head_ : tail_->next_ready) = operation;
    tail_ = operation;
  }
  void push_front(IoOperation* operation) {
    operation->next_ready = head_;
    if (head_ == nullptr) tail_ = operation;
    head_ = operation;
  }
  void pop_front() { head_ = head_->next_ready; }

 private:
  IoOperation* head_ = nullptr;
  IoOperation* tail_ = nullptr;  // of a list that is not empty
};

// Operations under way, oldest first, so the first has the earliest deadline.
class ActiveList {
 public:
  [[nodiscard]] bool empty() const { return head_ == nullptr; }
  [[nodiscard]] IoOperation* front() const { return head_; }
  void push_back(IoOperation* operation) {
    operation->previous_active = tail_;
    operation->next_active = nullptr;
    (tail_ == nullptr ? head_ : tail_->next_active) = operation;
    tail_ = operation;
  }
  void remove(IoOperation* operation) {
    IoOperation* next = operation->next_active;
    IoOperation* previous = operation->previous_active;
    (previous == nullptr ? head_ : previous->next_active) = next;
    (next == nullptr ? tail_ : next->previous_active) = previous;
  }

 private:
  IoOperation* head_ = nullptr;
  IoOperation* tail_ = nullptr;
};

}  // namespace kvfs::tiers
