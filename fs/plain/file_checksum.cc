#include "fs/plain/file_checksum.h"

#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <memory>
#include <vector>

namespace kvfs::plain {
namespace {

constexpr std::size_t kPiece = 1 << 20;

struct FreeState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

}  // namespace

std::optional<std::uint64_t> file_checksum(int fd, const std::atomic<bool>& stopping) {
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  if (state == nullptr || XXH3_64bits_reset(state.get()) == XXH_ERROR) return std::nullopt;
  std::vector<char> piece(kPiece);
  for (off_t offset = 0; !stopping;) {
    const ssize_t got = ::pread(fd, piece.data(), piece.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) return XXH3_64bits_digest(state.get());
    if (XXH3_64bits_update(state.get(), piece.data(), static_cast<std::size_t>(got)) == XXH_ERROR)
      return std::nullopt;
    offset += got;
  }
  return std::nullopt;
}

}  // namespace kvfs::plain
