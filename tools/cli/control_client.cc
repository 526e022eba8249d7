#include "tools/cli/control_client.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "tools/cli/mount_point.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

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
