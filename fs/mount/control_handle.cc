#include "fs/mount/control_handle.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "fs/mount/control_json.h"
#include "fs/mount/file_system.h"
#include "lib/format/json_text.h"

namespace kvfs::mount {

void ControlHandle::write(FileSystem& fs, fuse_req_t req, std::uint64_t,
                          std::span<const char> bytes) {
  bool whole = false;
  PendingReply replaced;
  {
    const MutexLock lock(mutex_);
    if (!answer_.empty()) {  // the next request drops what was not read of the last answer
      request_.clear();
      answer_.clear();
      answered_ = 0;
    }
    if (request_.size() + bytes.size() > kMaxControlRequest) return reply(req, Refusal::kTooLarge);
    ++writes_;
    request_.append(bytes.data(), bytes.size());
    whole = nlohmann::json::accept(request_);
    if (whole) {
      // Whose write is interrupted, while this is under way, writes it once more from the
      // beginning.
      const bool posted = next_.has_value();
      if (posted) replaced = std::move(next_->pending);
      next_ = Call{std::exchange(request_, {}), bytes.size(), writes_, fs.parked().park(req)};
      if (!posted) fs.jobs().post([&fs, self = self()] { self->begin(fs); });
    }
  }
  // The rest is still to come, or a read will say what is wrong.
  if (!whole) fuse_reply_write(req, bytes.size());
  replaced.refuse(Refusal::kInterrupted);
}

void ControlHandle::begin(FileSystem& fs) {
  Call call;
  {
    const MutexLock lock(mutex_);
    call = *std::exchange(next_, std::nullopt);
  }
  if (call.pending.answered()) return;  // the caller is gone, or about to ask again
  const auto request = nlohmann::json::parse(call.text, nullptr, /*allow_exceptions=*/false);
  run_(fs, *inode(), request,
       [self = self(), number = call.number, written = call.written, pending = call.pending](
           const nlohmann::json& answer, std::function<void()> after) {
         self->answered(number, answer, std::move(after));
         pending.answer([written](fuse_req_t waiting) { fuse_reply_write(waiting, written); });
       });
}

void ControlHandle::answered(std::uint64_t number, const nlohmann::json& answer,
                             std::function<void()> after) {
  if (!answer.value("ok", false)) spdlog::debug("control: {}", json_text(answer));
  const MutexLock lock(mutex_);
  if (number != writes_) return;
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
