#include <spawn.h>
#include <sys/wait.h>

#include <filesystem>
#include <iterator>

#include "tests/fs/mount/kill/client.h"

namespace kvfs::test {
namespace {

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ShellClient final : public KillClient {
 public:
  using KillClient::KillClient;

 private:
  void step() override {
    switch (random(4)) {
      case 0:
        return copy_in(stored_prompt());
      case 1:
        if (random(2) == 0) give_up_one();
        return;
      default:
        return copy_out();
    }
  }

  // One of ours that is in the first namespace, as likely as not.
  PromptId stored_prompt() {
    PromptId prompt = own_prompt();
    for (int tries = 0; tries < 20 && ledger_.entry(0, prompt) == 0; ++tries) prompt = own_prompt();
    if (const std::uint32_t blocks = ledger_.entry(0, prompt); blocks != 0) prompt.blocks = blocks;
    return prompt;
  }

  // A listed file comes out whole and right, or cp says that it did not.
  void copy_out() {
    const std::size_t space = random(kSpaces.size());
    const std::string name = random_name(options_.mount + "/" + kSpaces[space].name);
    const auto key = key_from_file_name(name);
    if (!key) return;
    const std::string file = options_.mount + "/" + kSpaces[space].name + "/" + name;
    const std::string copy = options_.scratch + "/out";
    if (!shell("cp '" + file + "' '" + copy + "' && sha256sum < '" + file + "' > '" + copy +
               ".sum'")) {
      return;
    }
    const std::string bytes = contents(copy);
    const std::string wrong =
        wrong_in_file(geometry_of(kSpaces[space]), *key, std::as_bytes(std::span(bytes)));
    if (!wrong.empty()) ledger_.complain("cp of " + file + ": " + wrong);
    if (!shell("sha256sum < '" + copy + "' | cmp -s - '" + copy + ".sum'")) {
      ledger_.complain("sha256sum of " + file + " is not that of its copy");
    }
    ++ledger_.copied_out;
  }

  void copy_in(const PromptId& prompt) {
    const std::string from = path_of(0, prompt);
    const std::string to = path_of(kCopies, prompt);
    if (!shell("cp '" + from + "' '" + options_.scratch + "/in' && cp '" + options_.scratch +
               "/in' '" + to + "'")) {
      return;
    }
    ++ledger_.copied_in;
    if (pin(kCopies, prompt) && shell("sync '" + to + "'")) promise(kCopies, prompt);
  }

  std::string random_name(const std::string& directory) {
    std::error_code error;
    std::vector<std::string> names;
    for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
         at.increment(error)) {
      names.push_back(at->path().filename());
    }
    if (names.empty()) return {};
    return names[random(static_cast<std::uint32_t>(names.size()))];
  }

  static bool shell(const std::string& command) {
    std::string script = "{ " + command + "; } 2>/dev/null";
    std::array<char*, 4> arguments{const_cast<char*>("sh"), const_cast<char*>("-c"), script.data(),
                                   nullptr};
    pid_t child = -1;
    int status = -1;
    if (::posix_spawn(&child, "/bin/sh", nullptr, nullptr, arguments.data(), environ) != 0) {
      return false;
    }
    return ::waitpid(child, &status, 0) == child && status == 0;
  }
};

}  // namespace

void run_shell_client(const LoadOptions& options, Ledger& ledger) {
  ShellClient(options, ledger).run(std::array{kCopies});
}

}  // namespace kvfs::test
