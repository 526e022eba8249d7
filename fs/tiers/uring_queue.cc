#include "fs/tiers/uring_queue.h"

#include <utility>

#include "fs/tiers/uring_loop.h"

namespace kvfs::tiers {

UringQueue::UringQueue(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}
UringQueue::~UringQueue() = default;

Result<std::unique_ptr<UringQueue>> UringQueue::open(const UringOptions& options,
                                                     IoCounters& counters) {
  auto loop = std::make_unique<Loop>(options, counters);
  if (auto started = loop->start(); !started) return pass(std::move(started));
  return std::unique_ptr<UringQueue>(new UringQueue(std::move(loop)));
}

void UringQueue::read(std::shared_ptr<IoFile> file, std::uint64_t offset,
                      std::span<std::byte> bytes, IoDone done) {
  IoOperation* operation = loop_->fresh();
  operation->kind = IoKind::kRead;
  operation->file = std::move(file);
  operation->offset = offset;
  operation->memory = bytes.data();
  operation->bytes = bytes.size();
  operation->done = std::move(done);
  loop_->submit(operation);
}

void UringQueue::write(std::shared_ptr<IoFile> file, std::uint64_t offset,
                       std::span<const std::byte> bytes, IoDone done) {
  IoOperation* operation = loop_->fresh();
  operation->kind = IoKind::kWrite;
  operation->file = std::move(file);
  operation->offset = offset;
  // One kind of operation serves both; nothing is stored through it for a write.
  operation->memory = const_cast<std::byte*>(bytes.data());
  operation->bytes = bytes.size();
  operation->done = std::move(done);
  loop_->submit(operation);
}

void UringQueue::fail_later(Error error, IoDone done) {
  IoOperation* operation = loop_->fresh();
  operation->kind = IoKind::kFail;
  operation->status = tl::unexpected<Error>(std::move(error));
  operation->done = std::move(done);
  loop_->submit(operation);
}

void UringQueue::register_memory(std::span<std::byte> memory) {
  IoOperation* operation = loop_->fresh();
  operation->kind = IoKind::kAddMemory;
  operation->memory = memory.data();
  operation->bytes = memory.size();
  loop_->submit(operation);
}

void UringQueue::unregister_memory(std::span<std::byte> memory) {
  IoOperation* operation = loop_->fresh();
  operation->kind = IoKind::kRemoveMemory;
  operation->memory = memory.data();
  operation->bytes = memory.size();
  loop_->submit(operation);
}

void UringQueue::forget(std::shared_ptr<IoFile> file) {
  IoOperation* operation = loop_->fresh();
  operation->kind = IoKind::kForgetFile;
  operation->file = std::move(file);
  loop_->submit(operation);
}

}  // namespace kvfs::tiers
