#include "tools/cli/prefix_argument.h"

#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "lib/format/key.h"
#include "lib/format/prefix_file.h"
#include "tools/cli/mount_point.h"

namespace kvfs::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kShortestKey = 4;  // digits of an abbreviated key

struct PrefixRef {
  std::string mount;
  std::string name_space;
  std::string prefix;  // key in hex (or the beginning of one), or a name; without .safetensors
};

Result<PrefixRef> parse(const std::string& mount_given, const std::string& argument) {
  std::string text = argument;
  std::string mount_wanted = mount_given;
  if (text.starts_with("/") || text.starts_with("./") || text.starts_with("../")) {
    const std::string path = fs::absolute(text).lexically_normal().string();
    for (const std::string& mount : kvfs_mounts()) {
      if (path.starts_with(mount + "/")) {
        mount_wanted = mount;
        text = path.substr(mount.size() + 1);
      }
    }
    if (text == argument) {
      return fail(Code::kNotFound, fmt::format("{} is not below a kvfs mount", argument));
    }
  }
  Result<std::string> mount = find_mount(mount_wanted);
  if (!mount) return pass(std::move(mount));
  PrefixRef ref{.mount = *mount};
  const std::size_t slash = text.find('/');
  const std::string name_space = slash == std::string::npos ? "" : text.substr(0, slash);
  ref.prefix = slash == std::string::npos ? text : text.substr(slash + 1);
  if (ref.prefix.ends_with(kPrefixSuffix)) {
    ref.prefix.resize(ref.prefix.size() - kPrefixSuffix.size());
  }
  if (ref.prefix.empty() || ref.prefix.find('/') != std::string::npos) {
    return fail(
        Code::kInvalid,
        fmt::format("'{}' does not name a prefix: give NAMESPACE/KEY, NAMESPACE/NAME or the "
                    "path of a prefix file",
                    argument));
  }
  Result<std::string> found = find_namespace(ref.mount, name_space);
  if (!found) return pass(std::move(found));
  ref.name_space = *found;
  return ref;
}

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<json> stat_abbreviated(ControlClient& control, const PrefixRef& ref) {
  std::vector<std::string> found;
  json stat;
  const auto each = [&](const json& page) {
    for (const json& entry : page.at("prefixes")) {
      const auto& key = entry.at("key").get_ref<const std::string&>();
      if (!key.starts_with(ref.prefix)) continue;
      found.push_back(key);
      stat = entry;
    }
    return found.size() < 2;
  };
  const Status status = for_each_page(control, {{"op", "list"}, {"limit", kPageLimit}}, each);
  if (!status) return tl::unexpected(status.error());
  if (found.size() > 1) {
    return fail(Code::kInvalid,
                fmt::format("several prefixes of {} begin with {} ({}, {}): give more "
                            "digits",
                            ref.name_space, ref.prefix, found[0], found[1]));
  }
  if (found.empty()) {
    return fail(Code::kNotFound,
                fmt::format("{} has no prefix {}: kvfs ls {} shows those there are", ref.name_space,
                            ref.prefix, ref.name_space));
  }
  return stat;
}

Result<json> stat_of(ControlClient& control, const PrefixRef& ref) {
  if (key_from_hex(ref.prefix)) return control.call({{"op", "stat"}, {"key", ref.prefix}});
  // A name is a directory entry: mostly one with the suffix, which people leave out.
  const std::string entry = ref.prefix + std::string(kPrefixSuffix);
  Result<json> stat = control.call({{"op", "stat"}, {"name", entry}});
  const auto missing = [&] { return !stat && stat.error().code == Code::kNotFound; };
  if (missing()) stat = control.call({{"op", "stat"}, {"name", ref.prefix}});
  const bool maybe_key = ref.prefix.size() >= kShortestKey && is_hex(ref.prefix);
  return missing() && maybe_key ? stat_abbreviated(control, ref) : stat;
}

}  // namespace

Result<NamedPrefix> find_prefix(const std::string& mount_given, const std::string& argument) {
  Result<PrefixRef> ref = parse(mount_given, argument);
  if (!ref) return pass(std::move(ref));
  Result<ControlClient> control = ControlClient::open_namespace(ref->mount, ref->name_space);
  if (!control) return pass(std::move(control));
  Result<json> stat = stat_of(*control, *ref);
  if (!stat) return pass(std::move(stat));
  return NamedPrefix{std::move(ref->mount), std::move(ref->name_space), std::move(*control),
                     std::move(*stat)};
}

}  // namespace kvfs::cli
