#include "fs/mount/background.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "fs/exit_code.h"

namespace kvfs::mount {
namespace {

// The first byte is the exit status, an error's text follows; nothing means that the child died.
[[noreturn]] void wait_for_child(int pipe) {
  std::string report;
  std::array<char, 4096> piece;
  while (true) {
    const ssize_t n = ::read(pipe, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    report.append(piece.data(), static_cast<std::size_t>(n));
    if (report.front() == '\0') ::_exit(0);
  }
  if (report.empty()) {
    std::fputs("kvfsd: the daemon died before it was ready; its log may say why\n", stderr);
    ::_exit(static_cast<int>(ExitCode::kIo));
  }
  std::fprintf(stderr, "kvfsd: %s\n", report.c_str() + 1);
  ::_exit(report.front());
}

}  // namespace

Background Background::fork_to_background() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    std::perror("kvfsd: pipe");
    ::_exit(static_cast<int>(ExitCode::kIo));
  }
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("kvfsd: fork");
    ::_exit(static_cast<int>(ExitCode::kIo));
  }
  if (child != 0) {
    ::close(ends[1]);
    wait_for_child(ends[0]);
  }
  ::close(ends[0]);
  ::setsid();
  if (::chdir("/") != 0) std::perror("kvfsd: chdir /");
  return Background(UniqueFd(ends[1]));
}

void Background::ready() {
  if (!parent_.valid()) return;
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {0, 1, 2}) ::dup2(null, standard);
  ::close(null);
  if (::write(parent_.get(), "\0", 1) < 0) {
    // The parent was killed: nobody waits.
  }
  parent_.reset();
}

void Background::failed(const Error& error) {
  if (parent_.valid()) {
    const std::string report = static_cast<char>(exit_code_of(error.code)) + error.message;
    if (::write(parent_.get(), report.data(), report.size()) < 0)
      std::fprintf(stderr, "kvfsd: %s\n", error.message.c_str());
    parent_.reset();
  } else {
    std::fprintf(stderr, "kvfsd: %s\n", error.message.c_str());
  }
}

}  // namespace kvfs::mount
