#include "fs/plain/candidates.h"

#include <algorithm>
#include <utility>

#include "fs/plain/record.h"

namespace kvfs::plain {

Candidates::Candidates(Unit unit, std::function<std::int64_t(const std::string&)> asked)
    : unit_(unit),
      in_use_since_(time_of_files() - std::chrono::nanoseconds(kInUse).count()),
      asked_(std::move(asked)) {}

void Candidates::add(const FoundFile& file) {
  const std::int64_t used = nanoseconds(file.status.st_atim);
  const std::string_view subdirectory = subdirectory_of(file.path);
  if (unit_ == Unit::kFile || subdirectory.empty())
    return offer({.path = file.path, .inode = file.status.st_ino, .used = used});
  if (subdirectory_ && subdirectory_->path != subdirectory) end_subdirectory();
  if (!subdirectory_) subdirectory_ = {.path = std::string(subdirectory), .whole = true};
  subdirectory_->used = std::max(subdirectory_->used, used);
}

void Candidates::end_subdirectory() {
  if (!subdirectory_) return;
  subdirectory_->used = std::max(subdirectory_->used, asked_(subdirectory_->path));
  offer(*std::exchange(subdirectory_, std::nullopt));
}

void Candidates::offer(Candidate candidate) {
  if (oldest_.size() == kMost) {
    if (candidate.used >= oldest_.top().used) return;
    oldest_.pop();
  }
  oldest_.push(std::move(candidate));
}

std::vector<Candidate> Candidates::take() {
  end_subdirectory();
  std::vector<Candidate> all;
  all.reserve(oldest_.size());
  for (; !oldest_.empty(); oldest_.pop()) all.push_back(oldest_.top());
  std::ranges::reverse(all);
  const auto in_use = [this](const Candidate& one) {
    return one.whole && one.used >= in_use_since_;
  };
  const std::size_t found = all.size();
  if (found > 0 && std::ranges::all_of(all, in_use))
    all.resize(1);
  else
    std::erase_if(all, in_use);
  held_back_ = all.size() != found;
  return all;
}

}  // namespace kvfs::plain
