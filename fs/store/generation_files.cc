#include "fs/store/generation_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>

#include "fs/unique_fd.h"
#include "lib/format/index_layout.h"

namespace kvfs::store {
namespace {

constexpr std::string_view kIndex = "index.";
constexpr std::string_view kNodes = "nodes.";

std::optional<std::uint64_t> generation_of(std::string_view name) {
  if (!name.starts_with(kIndex) && !name.starts_with(kNodes)) return std::nullopt;
  name.remove_prefix(kIndex.size());
  std::uint64_t generation = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), generation);
  if (error != std::errc{} || end != name.data() + name.size() || name.starts_with('0')) {
    return std::nullopt;
  }
  return generation;
}

std::string path_of(const std::string& directory, std::string_view kind, std::uint64_t generation) {
  return directory + "/" + std::string(kind) + std::to_string(generation);
}

}  // namespace

std::string index_path(const std::string& directory, std::uint64_t generation) {
  return path_of(directory, kIndex, generation);
}
std::string nodes_path(const std::string& directory, std::uint64_t generation) {
  return path_of(directory, kNodes, generation);
}

Result<std::vector<std::uint64_t>> generations_in(const std::string& directory) {
  std::vector<std::uint64_t> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (const auto generation = generation_of(entry->path().filename().native())) {
      found.push_back(*generation);
    }
  }
  if (error) return fail_errno(error.value(), "read directory " + directory);
  std::ranges::sort(found, std::greater{});
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

Status supersede_generations(const std::string& directory) {
  const Result<std::vector<std::uint64_t>> generations = generations_in(directory);
  if (!generations) return tl::unexpected(generations.error());
  for (const std::uint64_t generation : *generations) {
    const std::string path = index_path(directory, generation);
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file.valid() && errno == ENOENT) continue;  // its nodes alone are left
    constexpr decltype(IndexHeader::superseded) kYes = 1;
    if (!file.valid() || ::pwrite(file.get(), &kYes, sizeof(kYes),
                                  offsetof(IndexHeader, superseded)) != sizeof(kYes)) {
      return fail_errno(errno, "mark " + path + " as superseded");
    }
  }
  return {};
}

Status remove_generation(const std::string& directory, std::uint64_t generation) {
  for (const std::string& path :
       {index_path(directory, generation), nodes_path(directory, generation)}) {
    std::error_code error;
    std::filesystem::remove(path, error);
    if (error) return fail_errno(error.value(), "remove " + path);
  }
  return {};
}

}  // namespace kvfs::store
