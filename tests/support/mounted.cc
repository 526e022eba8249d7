#include "tests/support/mounted.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

namespace kvfs::test {
namespace {

using namespace std::chrono_literals;

std::string contents(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Where the programs are: beside a tree that was built elsewhere, the environment says it.
std::string programs() {
  const char* given = std::getenv("KVFS_BIN_DIR");
  return given != nullptr ? given : KVFS_BIN_DIR;
}

}  // namespace

bool eventually(const std::function<bool()>& condition, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

DaemonProcess::DaemonProcess(Options options) : options_(std::move(options)) {
  std::filesystem::create_directory(mount());
  start();
}

DaemonProcess::~DaemonProcess() { end(SIGTERM); }

DaemonProcess::Unmounter::~Unmounter() {
  std::istringstream mounts(contents("/proc/self/mounts"));
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string what, where;
    words >> what >> where;
    if (where.starts_with(below + "/")) ::umount2(where.c_str(), MNT_DETACH);
  }
}

bool DaemonProcess::serving() const { return !contents(mount() + "/.kvfs/version").empty(); }

void DaemonProcess::start() {
  std::vector<std::string> words{programs() + "/kvfsd",
                                 "--mountpoint",
                                 mount(),
                                 "--dram",
                                 options_.dram,
                                 "--run-dir",
                                 directory_.file("run"),
                                 "--state-dir",
                                 directory_.file("state")};
  if (!options_.nvme.empty()) {
    const std::string disk =
        options_.nvme_directory.empty() ? directory_.file("disk") : options_.nvme_directory;
    std::filesystem::create_directories(disk);
    words.insert(words.end(), {"--nvme", disk + ":" + options_.nvme});
  }
  words.insert(words.end(), options_.more.begin(), options_.more.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const std::string log = directory_.file("log");
  pid_ = ::fork();
  if (pid_ == 0) {
    const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  const bool served = eventually(
      [this] {
        if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
          pid_ = -1;
          return true;
        }
        return serving();
      },
      180);  // the first with a GPU under compute-sanitizer takes more than a minute
  if (pid_ < 0 || !served) throw std::runtime_error("kvfsd did not start:\n" + this->log());
}

void DaemonProcess::end(int signal) {
  if (pid_ < 0) return;
  ::kill(pid_, signal);
  if (!eventually([this] { return ::waitpid(pid_, nullptr, WNOHANG) == pid_; }, 60)) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_ = -1;
}

void DaemonProcess::stop() { end(SIGTERM); }
void DaemonProcess::freeze() {
  ::kill(pid_, SIGSTOP);
  // Its threads go on until the signal has reached one of them.
  siginfo_t stopped{};
  if (::waitid(P_PID, static_cast<id_t>(pid_), &stopped, WSTOPPED) != 0)
    throw std::runtime_error("waiting for the daemon to stop");
}
void DaemonProcess::kill() { end(SIGKILL); }
void DaemonProcess::lose_memory() {
  const std::string tmpfs = directory_.file("run");
  if (::umount2(tmpfs.c_str(), MNT_DETACH) != 0)
    throw std::runtime_error("taking off the tmpfs on " + tmpfs);
}
std::string DaemonProcess::log() const { return contents(directory_.file("log")); }
std::string DaemonProcess::read(const std::string& path) const {
  return contents(mount() + "/" + path);
}

void Mounted::SetUp() {
  if (::access("/dev/fuse", R_OK | W_OK) != 0 || ::geteuid() != 0) {
    GTEST_SKIP() << "needs /dev/fuse and root";
  }
  daemon_ = std::make_unique<DaemonProcess>(options());
}

void Mounted::TearDown() {
  if (!daemon_) return;
  daemon_->stop();
  const std::string log = daemon_->log();
  if (log.find("Sanitizer") != std::string::npos || log.find("runtime error:") != std::string::npos)
    ADD_FAILURE() << "a sanitizer has something to say about kvfsd";
  if (HasFailure()) std::fputs(log.c_str(), stderr);
  daemon_.reset();
}

}  // namespace kvfs::test
