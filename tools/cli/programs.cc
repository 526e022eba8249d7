#include "tools/cli/programs.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace kvfs::cli {

Result<std::string> find_program(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::path> places;
  if (const fs::path self = fs::read_symlink("/proc/self/exe", error); !error) {
    const fs::path here = self.parent_path();
    places = {here, here / "../sbin", here / "../libexec/kvfs"};
  }
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) places.emplace_back(folder);
  for (const fs::path& place : places) {
    const std::string candidate = (place / name).lexically_normal().string();
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return fail(
      Code::kNotFound,
      fmt::format("the program {} is neither beside kvfs nor in PATH: install it, or build it",
                  name));
}

Result<int> run_program(const std::string& path, const std::vector<std::string>& arguments) {
  std::vector<std::string> words{path};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  if (const int error = ::posix_spawn(&child, path.c_str(), nullptr, nullptr, argv.data(), environ);
      error != 0) {
    return fail_errno(error, path);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return fail_errno(errno, path);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace kvfs::cli
