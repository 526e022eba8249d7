#include "tools/cli/control_client.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "lib/format/prefix_file.h"
#include "tools/cli/mount_point.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kShortestKey = 4;  // digits of an abbreviated key
constexpr int kPageLimit = 5000;

Result<Code> code_from_name(std::string_view name) {
  for (int code = 0; code <= static_cast<int>(Code::kUnavailable); ++code) {
    if (code_name(static_cast<Code>(code)) == name) return static_cast<Code>(code);
  }
  return fail(Code::kIo, "");
}

tl::unexpected<Error> fail_call(int error, const std::string& path, std::string_view doing) {
  if (daemon_is_gone(error) || error == EIO) {
    return fail(Code::kUnavailable, fmt::format("{}: the daemon is gone while {}: look at its log, "
                                                "then kvfs umount and kvfs mount",
                                                path, doing));
  }
  return fail_errno(error, fmt::format("{} {}", doing, path));
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

}  // namespace

Result<ControlClient> ControlClient::open(std::string path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (fd.valid()) return ControlClient(std::move(path), std::move(fd));
  if (errno == EACCES || errno == EPERM) {
    return fail(Code::kPermission,
                fmt::format("{} may not be opened by this user: run the command as "
                            "the owner of that file",
                            path));
  }
  return fail_call(errno, path, "opening");
}

Result<ControlClient> ControlClient::open_store(const std::string& mount) {
  return open(mount + "/.kvfs/control");
}

Result<ControlClient> ControlClient::open_namespace(const std::string& mount,
                                                    const std::string& name) {
  return open(mount + "/" + name + "/.kvfs/control");
}

Result<json> ControlClient::call(const json& request) {
  const std::string text = request.dump(-1, ' ', false, json::error_handler_t::replace);
  const ssize_t written = ::write(fd_.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) {
    return fail_call(written < 0 ? errno : EIO, path_, "asking");
  }
  std::string answer;
  std::array<char, 65536> piece{};
  for (;;) {
    const ssize_t got = ::read(fd_.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_call(errno, path_, "reading the answer of");
    if (got == 0) break;
    answer.append(piece.data(), static_cast<std::size_t>(got));
  }
  json object = json::parse(answer, nullptr, false);
  if (!object.is_object() || !object.contains("ok")) {
    return fail(Code::kIo,
                fmt::format("{} gave an answer that is not one: daemon and command are of "
                            "different versions?",
                            path_));
  }
  if (!object["ok"].get<bool>()) {
    const Result<Code> code = code_from_name(object.value("code", ""));
    return fail(code ? *code : Code::kIo, object.value("error", "the daemon gave no reason"));
  }
  object.erase("ok");
  return object;
}

Result<json> stat_prefix(ControlClient& control, const PrefixRef& ref) {
  if (key_from_hex(ref.prefix)) return control.call({{"op", "stat"}, {"key", ref.prefix}});
  // A name is a directory entry: mostly one with the suffix, which people leave out.
  const std::string entry = ref.prefix + std::string(kPrefixSuffix);
  Result<json> stat = control.call({{"op", "stat"}, {"name", entry}});
  const auto missing = [&] { return !stat && stat.error().code == Code::kNotFound; };
  if (missing()) stat = control.call({{"op", "stat"}, {"name", ref.prefix}});
  const bool maybe_key = ref.prefix.size() >= kShortestKey && is_hex(ref.prefix);
  return missing() && maybe_key ? stat_abbreviated(control, ref) : stat;
}

Status for_each_page(ControlClient& control, json request,
                     const std::function<bool(const json&)>& each) {
  for (;;) {
    Result<json> page = control.call(request);
    if (!page) return pass(std::move(page));
    if (!each(*page)) return {};
    const auto next = page->find("next");
    if (next == page->end() || next->is_null()) return {};
    request["cursor"] = *next;
  }
}

}  // namespace kvfs::cli
