#include "tests/support/child.h"

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace kvfs::test {
namespace {

constexpr std::string_view kFlag = "--child-step";

std::map<std::string, ChildStep::Body>& steps() {
  static std::map<std::string, ChildStep::Body> instance;
  return instance;
}

int guarded(const std::function<int()>& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "in a child: %s\n", error.what());
    return 99;
  }
}

// A test that is killed leaves no children behind.
void end_with_parent() { ::prctl(PR_SET_PDEATHSIG, SIGKILL); }

}  // namespace

ChildStep::ChildStep(const char* name, Body body) : name_(name) {
  if (!steps().emplace(name, std::move(body)).second) std::abort();
}

void run_child_step(int argc, char** argv) {
  if (argc < 3 || argv[1] != kFlag) return;
  end_with_parent();
  const Words words(argv + 3, argv + argc);
  std::exit(guarded([&] { return steps().at(argv[2])(words); }));
}

Child::Child(const ChildStep& step, const Words& words) : pid_(-1) {
  Words line{"/proc/self/exe", std::string(kFlag), step.name()};
  line.insert(line.end(), words.begin(), words.end());
  std::vector<char*> arguments;
  for (std::string& word : line) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  if (::posix_spawn(&pid_, arguments[0], nullptr, nullptr, arguments.data(), ::environ) != 0) {
    throw std::runtime_error("a child did not start");
  }
}

Child::Child(const std::function<int()>& body) : pid_(::fork()) {
  if (pid_ != 0) return;
  end_with_parent();
  ::_exit(guarded(body));
}

Child::~Child() {
  if (pid_ > 0) kill();
}

int Child::wait() {
  int status = 0;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void Child::kill() {
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

bool Child::stopped() {
  int status = 0;
  ::waitpid(pid_, &status, WUNTRACED);
  if (WIFSTOPPED(status)) return true;
  std::fprintf(stderr, "a child ended with %d\n", WEXITSTATUS(status));
  pid_ = -1;
  return false;
}

int Child::go_on() {
  ::kill(pid_, SIGCONT);
  return wait();
}

int stop_here() {
  ::raise(SIGSTOP);
  return 0;
}

}  // namespace kvfs::test
