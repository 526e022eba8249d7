#include "fs/mount/daemon.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <optional>

#include "fs/exit_code.h"
#include "fs/mount/descriptor_limit.h"
#include "fs/mount/end_watch.h"
#include "fs/mount/file_system.h"
#include "fs/mount/instance_lock.h"
#include "fs/mount/log_setup.h"
#include "fs/mount/sd_notify.h"
#include "fs/mount/session.h"
#include "fs/mount/shutdown.h"
#include "fs/mount/stale_mount.h"
#include "fs/mount/version.h"
#include "fs/plain/plain_store.h"
#include "fs/size_text.h"
#include "fs/store/store.h"
#include "fs/tiers/tmpfs.h"

namespace kvfs::mount {
namespace {

// For what follows the write-back at the end: it is quick, unless a disk does not answer.
constexpr std::chrono::seconds kEndGrace{5};

// Index, nodes and LMDB's lock share the tmpfs with the slabs; pages are taken as they are used.
std::uint64_t tmpfs_bytes(const Config& config) {
  return config.dram + config.dram / 4 + (1ULL << 30);
}

// Its lock is beside it, so the directory above is there.
Result<tiers::PrivateTmpfs> prepare_run_directory(const Config& config) {
  tiers::TmpfsOptions options;
  options.mount_point = config.run_dir;
  options.fallback = config.run_dir.starts_with("/dev/shm/")
                         ? config.run_dir
                         : fmt::format("/dev/shm/kvfs-{}-{}", ::geteuid(),
                                       std::filesystem::path(config.run_dir).filename().string());
  options.bytes = tmpfs_bytes(config);
  return tiers::prepare_private_tmpfs(options);
}

store::StoreOptions store_options(const Config& config, const std::string& run_directory) {
  store::StoreOptions options;
  options.dram.directory = run_directory + "/slabs";
  options.dram.capacity = config.dram;
  options.dram.slab_bytes = config.slab;
  options.dram.pretouch = config.pretouch;
  options.dram.progress = [last = -1](std::uint64_t done, std::uint64_t total) mutable {
    const int tenth = total == 0 ? 10 : static_cast<int>(done * 10 / total);
    if (tenth == last) return;
    last = tenth;
    spdlog::info("DRAM tier: {} of {} touched", size_text(done), size_text(total));
  };
  options.gpu.capacity = config.gpu;
  options.gpu.reserve = config.gpu_reserve;
  options.gpu_ordinal = config.gpu_ordinal;
  options.nvme.directories = config.nvme;
  options.nvme.segment_bytes = config.segment;
  options.nvme.queue_depth = config.nvme_queue_depth;
  options.nvme.io_timeout_ms = static_cast<std::uint32_t>(config.nvme_timeout.count());
  options.run_directory = run_directory + "/store";
  options.state_directory =
      config.state_dir == config.run_dir ? run_directory + "/state" : config.state_dir;
  options.writeback_backlog = config.writeback_backlog;
  options.quarantine_ms = static_cast<std::uint32_t>(config.quarantine.count());
  options.promote_depth = config.promote_depth;
  return options;
}

// What it takes to run, in the order in which it is built up; torn down backwards.
struct Daemon {
  Config config;
  std::optional<InstanceLock> state_lock, run_lock;
  tiers::PrivateTmpfs tmpfs;
  Shutdown shutdown;
  std::unique_ptr<plain::PlainStore> plain;  // null: the configuration has no place for it
  std::optional<FileSystem> fs;
  std::unique_ptr<store::Store> store;
  std::unique_ptr<Session> session;
  EndWatch end_watch;
  store::Deadline end_by;  // once the end has begun

  [[nodiscard]] bool keeps_dram() const {
    return !shutdown.drop_dram().value_or(!config.keep_dram);
  }
  Status lock();
  Status open_store();
  Status open_plain();
  Status mount();
  void begin_end();
  void last_steps();
  void close_store();
  void give_up();
  void remove_tmpfs();
};

// Before the tmpfs is touched: it may be another daemon's.
Status Daemon::lock() {
  const auto wait = config.shutdown_timeout + kEndGrace;
  auto run = InstanceLock::take(config.run_dir + ".lock", config.run_dir, wait);
  if (!run) return pass(std::move(run));
  run_lock = std::move(*run);
  if (config.state_dir != config.run_dir) {
    auto state = InstanceLock::take(config.state_dir + "/kvfsd.lock", config.state_dir, wait);
    if (!state) return pass(std::move(state));
    state_lock = std::move(*state);
  }
  auto prepared = prepare_run_directory(config);
  if (!prepared) return pass(std::move(prepared));
  tmpfs = *prepared;
  return {};
}

Status Daemon::open_store() {
  spdlog::info("{}: DRAM {} in {}{}, {} NVMe directories, state in {}", version_text(),
               size_text(config.dram), tmpfs.path, tmpfs.huge ? " (huge pages)" : "",
               config.nvme.size(), config.state_dir);
  fs.emplace(config, [this](ShutdownRequest request) { shutdown.request(request); });
  auto opened = store::Store::open(store_options(config, tmpfs.path), &*fs);
  if (!opened) return pass(std::move(opened));
  store = std::move(*opened);
  return open_plain();
}

Status Daemon::open_plain() {
  if (config.plain_dir.empty()) return {};
  auto opened = plain::PlainStore::open({config.plain_dir, config.plain_quota});
  if (!opened) return pass(std::move(opened));
  plain = std::move(*opened);
  return {};
}

Status Daemon::mount() {
  auto mounted = Session::mount(config, *fs);
  if (!mounted) return pass(std::move(mounted));
  session = std::move(*mounted);
  fs->serve(*store, plain.get(), session->get());
  if (plain != nullptr) plain->start(*fs);
  return {};
}

// The first call counts.
void Daemon::begin_end() {
  if (end_by != store::Deadline{}) return;
  for (std::optional<InstanceLock>* lock : {&run_lock, &state_lock}) {
    if (*lock) (*lock)->ending();
  }
  end_by = store::Clock::now() + config.shutdown_timeout;
  end_watch.arm(end_by + kEndGrace, [this] {
    spdlog::error("a disk does not answer: the daemon ends without it");
    detach_mount(config.mountpoint);
  });
}

// Requests are still served here.
void Daemon::last_steps() {
  begin_end();
  sd_notify("STOPPING=1");
  spdlog::info("ending: write-back within {}", duration_text(config.shutdown_timeout));
  std::promise<Status> flushed;
  store->flush(end_by, [&](Status status) { flushed.set_value(std::move(status)); });
  if (auto status = flushed.get_future().get(); !status) {
    spdlog::warn("{} were not written to NVMe ({}); they stay in DRAM for the next start",
                 size_text(store->stats().dirty_bytes), status.error().message);
  }
  fs->stop_notifying();
  session->end();
}

void Daemon::close_store() {
  const bool keep = keeps_dram();
  const Status closed = store->close(end_by, keep);  // logs what it could not write
  if (plain != nullptr) plain->stop(end_by);  // which may sync a disk: all the time that is left
  store.reset();
  fs.reset();  // knows namespaces, which have files there, and files of plain directories
  plain.reset();
  if (!keep && closed) remove_tmpfs();
}

// After a start that failed. What an earlier daemon left stays for the next.
void Daemon::give_up() {
  session.reset();
  store.reset();
  fs.reset();
  plain.reset();
  if (tmpfs.made) remove_tmpfs();
}

void Daemon::remove_tmpfs() {
  if (auto status = tiers::remove_private_tmpfs(tmpfs); !status)
    spdlog::warn("{}", status.error().message);
}

Status start(Daemon& daemon) {
  if (auto status = set_up_log(daemon.config); !status) return status;
  if (auto status = clear_mountpoint(daemon.config.mountpoint); !status) return status;
  if (auto status = check_machine(daemon.config); !status) return status;
  if (auto status = daemon.lock(); !status) return status;
  if (auto status = daemon.open_store(); !status) return status;
  return daemon.mount();
}

Status serve(Daemon& daemon, Background& background) {
  if (auto status = start(daemon); !status) {
    daemon.give_up();
    return status;
  }
  daemon.shutdown.start([&daemon] { daemon.last_steps(); });
  spdlog::info("mounted on {}", daemon.config.mountpoint);
  background.ready();
  sd_notify("READY=1");

  Status served = daemon.session->serve();
  daemon.shutdown.finish();
  daemon.begin_end();  // where somebody unmounted it
  daemon.fs->stop_notifying();
  daemon.fs->drain();
  daemon.session->unmount();
  daemon.fs->drop_handles();
  // With the connection the kernel lets go of the files it read and mapped for clients: until then
  // the tmpfs is in use.
  daemon.session.reset();
  daemon.close_store();
  daemon.end_watch.disarm();
  spdlog::info("unmounted {}", daemon.config.mountpoint);
  return served;
}

}  // namespace

int run_daemon(Config config, Background background) {
  block_ending_signals();
  raise_descriptor_limit();
  Daemon daemon;
  daemon.config = std::move(config);
  const Status status = serve(daemon, background);
  if (status) return 0;
  background.failed(status.error());
  return static_cast<int>(exit_code_of(status.error().code));
}

}  // namespace kvfs::mount
