#include "tools/benchmarks/daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include "fs/unique_fd.h"
#include "tools/cli/programs.h"

namespace kvfs::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kStartTime = std::chrono::seconds(60);
constexpr auto kStopTime = std::chrono::seconds(90);

// Waits for the process to end; false when it has not by then.
bool reap(pid_t pid, Clock::duration patience) {
  const auto deadline = Clock::now() + patience;
  while (::waitpid(pid, nullptr, WNOHANG) == 0) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

void end_process(pid_t& pid) {
  if (pid == 0) return;
  ::kill(pid, SIGTERM);
  if (!reap(pid, kStopTime)) {
    ::kill(pid, SIGKILL);
    reap(pid, kStopTime);
  }
  pid = 0;
}

// Where sd_notify(READY=1) of the daemon arrives.
Result<UniqueFd> listen_at(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ::unlink(path.c_str());
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno(errno, path);
  }
  return socket;
}

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::launch(const DaemonOptions& options) {
  Result<std::string> program = cli::find_program("kvfsd");
  if (!program) return pass(std::move(program));
  std::unique_ptr<Daemon> daemon(new Daemon(options, *program));
  if (Status status = daemon->start(); !status) return pass(std::move(status));
  return daemon;
}

Daemon::Daemon(DaemonOptions options, std::string program)
    : options_(std::move(options)),
      program_(std::move(program)),
      files_(options_.directory),
      memory_("/dev/shm"),
      mount_(files_.path() + "/mount"),
      pid_(std::make_shared<pid_t>(0)) {
  for (const char* name : {"mount", "nvme", "state"})
    std::filesystem::create_directory(files_.path() + "/" + name);
  token_ = Cleanup::instance().add([pid = pid_, mount = mount_, memory = memory_.path()] {
    end_process(*pid);
    ::umount2(mount.c_str(), MNT_DETACH);              // only where the daemon could not
    ::umount2((memory + "/run").c_str(), MNT_DETACH);  // a tmpfs that it may have left for the next
  });
}

Daemon::~Daemon() { Cleanup::instance().run(token_); }

Status Daemon::start() {
  const std::string socket_path = memory_.path() + "/ready";
  Result<UniqueFd> socket = listen_at(socket_path);
  if (!socket) return pass(std::move(socket));
  std::vector<std::string> words{program_,
                                 "--mountpoint",
                                 mount_,
                                 "--dram",
                                 std::to_string(options_.dram),
                                 "--run-dir",
                                 memory_.path() + "/run",
                                 "--state-dir",
                                 state_directory(),
                                 fmt::format("--keep-dram={}", options_.keep_dram),
                                 "--background=false"};
  if (options_.nvme > 0) {
    words.insert(words.end(), {"--nvme", fmt::format("{}:{}", nvme_directory(), options_.nvme)});
  }
  if (!options_.gpu.empty()) words.insert(words.end(), {"--gpu", options_.gpu});
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = files_.path() + "/log";
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno(errno, "fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // whatever ends the benchmark ends the daemon
    if (::getppid() != parent) ::_exit(1);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    ::setenv("NOTIFY_SOCKET", socket_path.c_str(), 1);
    ::execv(program_.c_str(), argv.data());
    ::_exit(127);
  }
  *pid_ = pid;
  return wait_until_ready(socket->get());
}

Status Daemon::wait_until_ready(int socket) {
  const auto deadline = Clock::now() + kStartTime;
  while (Clock::now() < deadline) {
    pollfd ready{.fd = socket, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 20) > 0) {
      char message[512];
      const ssize_t got = ::recv(socket, message, sizeof message, 0);
      if (got > 0 && std::string_view(message, static_cast<std::size_t>(got)).find("READY=1") !=
                         std::string_view::npos)
        return {};
    }
    if (::waitpid(*pid_, nullptr, WNOHANG) == *pid_) {
      *pid_ = 0;
      return fail(Code::kUnavailable, fmt::format("kvfsd did not start:\n{}", log_tail()));
    }
  }
  return fail(Code::kTimeout,
              fmt::format("kvfsd was not ready after {} s:\n{}", kStartTime.count(), log_tail()));
}

Status Daemon::stop() {
  const bool alive = *pid_ != 0 && ::kill(*pid_, 0) == 0;
  end_process(*pid_);
  if (!alive) return fail(Code::kUnavailable, fmt::format("kvfsd had died:\n{}", log_tail()));
  return {};
}

std::string Daemon::log_tail() const {
  constexpr std::size_t kTail = 3000;
  std::ifstream file(files_.path() + "/log");
  std::ostringstream text;
  text << file.rdbuf();
  const std::string all = text.str();
  return all.size() <= kTail ? all : all.substr(all.size() - kTail);
}

}  // namespace kvfs::bench
