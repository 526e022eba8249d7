#include "lib/client/control.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>

#include "lib/client/descriptor.h"
#include "lib/client/errors.h"

namespace kvfs::client {
namespace {

Code code_from_name(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(Code::kUnavailable); ++i) {
    if (code_name(static_cast<Code>(i)) == name) return static_cast<Code>(i);
  }
  return Code::kIo;
}

Status write_request(int fd, const std::string& text) {
  for (;;) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written == static_cast<ssize_t>(text.size())) return {};
    if (written >= 0) return fail(Code::kIo, "the control file took only part of a request");
    if (errno != EINTR) return mount_error(errno, "the control file");
  }
}

Result<std::string> read_answer(int fd) {
  std::string text;
  std::array<char, 65536> part;
  for (;;) {
    const ssize_t got = ::read(fd, part.data(), part.size());
    if (got == 0) return text;
    if (got > 0) {
      text.append(part.data(), static_cast<std::size_t>(got));
    } else if (errno != EINTR) {
      return mount_error(errno, "the control file");
    }
  }
}

}  // namespace

Result<nlohmann::json> control_request(int directory, const char* path,
                                       const nlohmann::json& request) {
  const Descriptor file(::openat(directory, path, O_RDWR | O_CLOEXEC));
  if (!file.valid()) return mount_error(errno, std::string("the control file ") + path);
  if (Status status = write_request(file.get(), request.dump()); !status) {
    return pass(std::move(status));
  }
  Result<std::string> text = read_answer(file.get());
  if (!text) return pass(std::move(text));
  nlohmann::json answer = nlohmann::json::parse(*text, nullptr, false);
  if (!answer.is_object() || !answer.contains("ok")) {
    return fail(Code::kIo,
                "the daemon's answer is not what this library understands: use one "
                "release for both");
  }
  if (answer["ok"] == true) return answer;
  return fail(code_from_name(answer.value("code", "")),
              answer.value("error", "the daemon refused without a reason"));
}

}  // namespace kvfs::client
