#include "lib/client/session.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "lib/client/errors.h"
#include "lib/client/ioctl_calls.h"

namespace kvfs::client {
namespace {

Status check_name(const std::string& name) {
  if (!name.empty() && name != "." && name != ".." && name != ".kvfs" &&
      name.find('/') == std::string::npos) {
    return {};
  }
  return fail(Code::kInvalid, "'" + name +
                                  "' cannot be a namespace: give the name of a directory "
                                  "at the mount's root");
}

tl::unexpected<Error> about(const std::string& what, Error error) {
  error.message = what + ": " + error.message;
  return tl::unexpected<Error>(std::move(error));
}

Result<std::string> read_file(int directory, const char* path, std::string_view what) {
  const Descriptor file(::openat(directory, path, O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return mount_error(errno, what);
  std::string text;
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t got = ::read(file.get(), part.data(), part.size());
    if (got == 0) return text;
    if (got < 0 && errno != EINTR) return mount_error(errno, what);
    if (got > 0) text.append(part.data(), static_cast<std::size_t>(got));
  }
}

Result<Geometry> read_geometry(int directory) {
  Result<std::string> text =
      read_file(directory, ".kvfs/geometry.json", "the namespace's geometry.json");
  if (!text) return pass(std::move(text));
  const nlohmann::json parsed = nlohmann::json::parse(*text, nullptr, false);
  if (parsed.is_discarded()) return fail(Code::kCorrupt, "geometry.json is not JSON");
  return geometry_from_json(parsed);
}

}  // namespace

Result<Descriptor> open_mount(const std::string& mount) {
  Descriptor root(::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return fail(Code::kNotFound, "mount '" + mount +
                                       "' is not a directory: start kvfsd, or give "
                                       "the directory where it is mounted");
    }
    return mount_error(errno, "mount '" + mount + "'");
  }
  if (Result<Hello> hello = ioctl_hello(root.get()); !hello) {
    return about("'" + mount + "'", std::move(hello).error());
  }
  return root;
}

Session::Session(Descriptor directory, Geometry geometry, bool mapped, bool read_only,
                 Devices& devices)
    : directory_(std::move(directory)),
      geometry_(std::move(geometry)),
      mapped_(mapped),
      slabs_(directory_.get(), read_only, devices) {}

void Session::note(Error& error) {
  const bool disk = error.code == Code::kCorrupt || error.code == Code::kIo;
  if (disk && !ioctl_hello(directory_.get())) {
    error = {Code::kUnavailable,
             "the daemon went during the call: treat it as a miss; the client tries again by "
             "itself"};
  }
  if (error.code == Code::kUnavailable) lost_.store(true, std::memory_order_relaxed);
}

Result<std::shared_ptr<Session>> Session::open(const SessionOptions& options, Devices& devices) {
  if (Status status = check_name(options.name); !status) return pass(std::move(status));
  Result<Descriptor> root = open_mount(options.mount);
  if (!root) return pass(std::move(root));

  const std::string what = "namespace '" + options.name + "' of '" + options.mount + "'";
  Descriptor directory(
      ::openat(root->get(), options.name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return fail(Code::kNotFound, what + " is not there: create it with its geometry first");
    }
    return mount_error(errno, what);
  }
  Result<Hello> hello = ioctl_hello(directory.get());
  if (!hello) return about(what, std::move(hello).error());
  Result<Geometry> geometry = read_geometry(directory.get());
  if (!geometry) {
    if (geometry.error().code == Code::kNotFound) {
      return fail(Code::kNotFound, "'" + options.name + "' is a plain directory of '" +
                                       options.mount + "', not a namespace: choose another name");
    }
    return about(what, std::move(geometry).error());
  }
  return std::make_shared<Session>(std::move(directory), std::move(*geometry),
                                   hello->passthrough && !options.force_fallback, options.read_only,
                                   devices);
}

}  // namespace kvfs::client
