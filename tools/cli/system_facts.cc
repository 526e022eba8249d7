#include "tools/cli/system_facts.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>

namespace kvfs::cli {
namespace {

std::optional<bool> find_option(std::istream& config, const std::string& option) {
  for (std::string line; std::getline(config, line);) {
    if (line == option + "=y" || line == option + "=m") return true;
  }
  return false;
}

struct ClosePipe {
  void operator()(std::FILE* pipe) const { ::pclose(pipe); }
};

std::optional<std::string> output_of(const char* command) {
  const std::unique_ptr<std::FILE, ClosePipe> pipe(::popen(command, "r"));
  if (!pipe) return std::nullopt;
  std::string text;
  char piece[4096];
  while (const std::size_t got = std::fread(piece, 1, sizeof piece, pipe.get()))
    text.append(piece, got);
  if (text.empty()) return std::nullopt;
  return text;
}

}  // namespace

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

std::string chosen_word(const std::string& line) {
  const std::size_t begin = line.find('[');
  const std::size_t end = line.find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return line;
  return line.substr(begin + 1, end - begin - 1);
}

std::uint64_t meminfo_bytes(const std::string& name) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name + ":")) continue;
    std::istringstream words(line.substr(name.size() + 1));
    std::uint64_t kilobytes = 0;
    words >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

bool has_capability(unsigned number) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("CapEff:")) continue;
    return (std::stoull(line.substr(7), nullptr, 16) >> number & 1U) != 0;
  }
  return false;
}

std::optional<bool> kernel_config(const std::string& option) {
  if (::access("/proc/config.gz", R_OK) == 0) {
    if (const auto text = output_of("gzip -dc /proc/config.gz 2>/dev/null")) {
      std::istringstream config(*text);
      return find_option(config, option);
    }
  }
  utsname system{};
  ::uname(&system);
  for (const std::string& path : {std::string("/boot/config-") + system.release,
                                  "/lib/modules/" + std::string(system.release) + "/config"}) {
    std::ifstream config(path);
    if (config) return find_option(config, option);
  }
  return std::nullopt;
}

}  // namespace kvfs::cli
