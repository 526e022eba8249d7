#include "fs/mount/control_handle.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fs/mount/control_json.h"
#include "fs/mount/file_system.h"
#include "lib/format/json_text.h"

namespace kvfs::mount {

void ControlHandle::write(FileSystem& fs, fuse_req_t req, std::uint64_t,
                          std::span<const char> bytes) {
  nlohmann::json request;
  {
    const MutexLock lock(mutex_);
    if (!answer_.empty()) {  // the next request drops what was not read of the last answer
      request_.clear();
      answer_.clear();
      answered_ = 0;
    }
    if (request_.size() + bytes.size() > kMaxControlRequest) return reply(req, Refusal::kTooLarge);
    request_.append(bytes.data(), bytes.size());
    request = nlohmann::json::parse(request_, nullptr, /*allow_exceptions=*/false);
    // Whose write is interrupted, while this is under way, writes it once more from the beginning.
    if (!request.is_discarded()) request_.clear();
  }
  if (request.is_discarded()) {  // the rest is still to come, or a read will say what is wrong
    fuse_reply_write(req, bytes.size());
    return;
  }
  fs.jobs().post([&fs, self = std::static_pointer_cast<ControlHandle>(shared_from_this()),
                  request = std::move(request), size = bytes.size(),
                  pending = fs.parked().park(req)] {
    self->run_(fs, *self->inode(), request,
               [self, size, pending](const nlohmann::json& answer, std::function<void()> after) {
                 self->answered(answer, std::move(after));
                 pending.answer([size](fuse_req_t waiting) { fuse_reply_write(waiting, size); });
               });
  });
}

void ControlHandle::answered(const nlohmann::json& answer, std::function<void()> after) {
  if (!answer.value("ok", false)) spdlog::debug("control: {}", json_text(answer));
  const MutexLock lock(mutex_);
  answer_ = json_text(answer) + "\n";
  answered_ = 0;
  after_ = std::move(after);
}

void ControlHandle::read(FileSystem&, fuse_req_t req, std::uint64_t, std::size_t size) {
  std::string piece;
  bool ended = false;
  {
    const MutexLock lock(mutex_);
    if (answer_.empty() && !request_.empty()) {
      answer_ =
          failure(Error{Code::kInvalid, "the request is not one JSON object: write {\"op\": ...}"})
              .dump() +
          "\n";
    }
    piece = answer_.substr(std::min(answered_, answer_.size()), size);
    answered_ += piece.size();
    ended = !answer_.empty() && piece.empty();  // he knows that there is no more
  }
  fuse_reply_buf(req, piece.data(), piece.size());
  if (ended) finish();
}

void ControlHandle::released(FileSystem&) { finish(); }

void ControlHandle::finish() {
  std::function<void()> after;
  {
    const MutexLock lock(mutex_);
    after.swap(after_);
  }
  if (after) after();
}

}  // namespace kvfs::mount
