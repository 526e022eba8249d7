#include "fs/mount/session.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <utility>

#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"
#include "fs/mount_info.h"

namespace kvfs::mount {
namespace {

constexpr std::uint64_t kPage = 4096;

// Arguments that libfuse frees.
class Arguments {
 public:
  Arguments() { add("kvfsd"); }
  ~Arguments() { fuse_opt_free_args(&args_); }
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;
  void add(const std::string& argument) { fuse_opt_add_arg(&args_, argument.c_str()); }
  void option(const std::string& option) { add("-o" + option); }
  fuse_args* get() { return &args_; }

 private:
  fuse_args args_{0, nullptr, 0};
};

bool write_setting(const std::string& path, std::uint64_t value) {
  std::ofstream file(path);
  file << value << std::flush;
  return static_cast<bool>(file);
}

// Requests over 1 MiB need the system's limit raised, which all FUSE file systems share.
void raise_max_pages(const Config& config) {
  if (!config.raise_max_pages) return;
  const char* limit = "/proc/sys/fs/fuse/max_pages_limit";
  std::uint64_t has = 0;
  std::ifstream(limit) >> has;
  const std::uint64_t wanted = config.max_read / kPage;
  if (has != 0 && has < wanted && !write_setting(limit, wanted)) {
    spdlog::warn("raise_max_pages: {} cannot be set to {}: requests stay smaller", limit, wanted);
  }
}

// INIT can only lower what the mount's readahead is, 128 KiB; root can raise it afterwards.
void raise_readahead(const Config& config) {
  const auto mount = mount_at(config.mountpoint);
  if (!mount || ::geteuid() != 0) return;
  const std::string path = "/sys/class/bdi/" + mount->device + "/read_ahead_kb";
  if (!write_setting(path, config.readahead / 1024))
    spdlog::warn("readahead: {} cannot be set", path);
}

void add_options(Arguments& arguments, const Config& config) {
  arguments.option("fsname=kvfs,subtype=kvfs");
  arguments.option(fmt::format("max_read={}", config.max_read));
  // A mount of one user has nobody else to keep out, and may then do what the handlers allow.
  if (config.allow_other) arguments.option("allow_other,default_permissions");
  if (config.uring) arguments.option("io_uring");
}

}  // namespace

Result<std::unique_ptr<Session>> Session::mount(const Config& config, FileSystem& fs) {
  raise_max_pages(config);
  Arguments arguments;
  add_options(arguments, config);
  fuse_session* session =
      fuse_session_new(arguments.get(), &operations(), sizeof(fuse_lowlevel_ops), &fs);
  if (session == nullptr)
    return fail(Code::kInvalid, "libfuse does not take the mount options; the log says which");
  if (fuse_session_mount(session, config.mountpoint.c_str()) != 0) {
    fuse_session_destroy(session);
    return fail(
        Code::kIo,
        fmt::format("mounting on {} failed: {}", config.mountpoint,
                    ::geteuid() == 0 ? "is /dev/fuse there?"
                                     : "is fusermount3 installed, and user_allow_other set in "
                                       "/etc/fuse.conf if allow_other is wanted?"));
  }
  return std::unique_ptr<Session>(new Session(config, session));
}

Session::~Session() {
  unmount();
  fuse_session_destroy(session_);
}

void Session::unmount() {
  if (std::exchange(mounted_, false)) fuse_session_unmount(session_);
}

Status Session::serve() {
  raise_readahead(config_);
  fuse_loop_config* loop = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(loop, config_.threads);
  fuse_loop_cfg_set_idle_threads(loop, config_.threads);
  const int result = fuse_session_loop_mt(session_, loop);
  fuse_loop_cfg_destroy(loop);
  if (result < 0) return fail_errno(-result, "serving the mount");
  return {};
}

}  // namespace kvfs::mount
