#include "fs/mount/import_handle.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <vector>

#include "fs/mount/file_system.h"
#include "fs/mount/import.h"

namespace kvfs::mount {
namespace {

// A name that looks like a key's file must be that key's.
Status give_name(store::Namespace& ns, const std::string& name, const Key& key) {
  const auto named = key_from_file_name(name);
  if (!named) return ns.add_name(name, key, /*replace=*/true);
  if (*named == key) return {};
  return fail(Code::kInvalid, fmt::format("its key is {}, its name says {}: call it {}",
                                          to_hex(key), to_hex(*named), prefix_file_name(key)));
}

// Whatever is wrong with the bytes is the caller's EINVAL.
Error as_import_error(Error error) {
  if (error.code == Code::kMismatch || error.code == Code::kCorrupt) error.code = Code::kInvalid;
  return error;
}

}  // namespace

void ImportHandle::read(FileSystem&, fuse_req_t req, std::uint64_t offset, std::size_t size) {
  std::vector<char> bytes(size);
  const auto got = inode()->import->read(offset, bytes);
  if (!got) return reply(req, got.error());
  fuse_reply_buf(req, bytes.data(), *got);
}

void ImportHandle::write(FileSystem&, fuse_req_t req, std::uint64_t offset,
                         std::span<const char> bytes) {
  const auto written = inode()->import->write(offset, bytes);
  if (!written) return reply(req, written.error());
  fuse_reply_write(req, *written);
}

void ImportHandle::allocate(FileSystem&, fuse_req_t req, int mode, std::uint64_t offset,
                            std::uint64_t length) {
  reply(req, inode()->import->allocate(mode, offset, length));
}

Status ImportHandle::finish(FileSystem& fs, pid_t writer) {
  store::Namespace& ns = *inode()->ns;
  Import& import = *inode()->import;
  const std::string name = fs.imports().name_of(ns.id(), import);
  if (name.empty() && !import.settled()) return {};  // unlinked meanwhile: nothing to store
  const bool again = import.stored() && import.settled();
  auto key = import.finish(ns, fs.config().store_timeout);
  Status status;
  if (!key) {
    status = tl::unexpected(as_import_error(key.error()));
  } else if (*key && !again && !name.empty()) {  // no name: another writer's close stored it
    status = give_name(ns, name, **key);
    if (status) settle(fs, name, writer);
  }
  if (!status) spdlog::warn("import of {}/{}: {}", ns.name(), name, status.error().message);
  return status;
}

// A key's own file is there by itself; another name stays in the table for its writer.
void ImportHandle::settle(FileSystem& fs, const std::string& name, pid_t writer) {
  inode()->import->settle(writer);
  if (key_from_file_name(name)) fs.imports().remove(inode()->id.namespace_id, *inode()->import);
}

void ImportHandle::flush(FileSystem& fs, fuse_req_t req) {
  if (!writes_) return reply_ok(req);
  const pid_t writer = fuse_req_ctx(req)->pid;  // a parked request may be gone
  fs.jobs().post([&fs, self = std::static_pointer_cast<ImportHandle>(shared_from_this()),
                  pending = fs.parked().park(req),
                  writer] { pending.finish(self->finish(fs, writer)); });
}

void ImportHandle::sync(FileSystem& fs, fuse_req_t req) {
  // Before the file is complete there is nothing that could be made durable; its close will tell.
  const pid_t writer = fuse_req_ctx(req)->pid;  // a parked request may be gone
  fs.jobs().post([&fs, self = std::static_pointer_cast<ImportHandle>(shared_from_this()),
                  pending = fs.parked().park(req), writer] {
    const Status finished = self->writes_ ? self->finish(fs, writer) : Status();
    if (!finished && finished.error().code != Code::kInvalid) {
      pending.refuse(finished.error());
      return;
    }
    self->inode()->ns->flush(store::Clock::now() + fs.config().flush_timeout,
                             [&fs, pending](const Status& status) {
                               fs.completions().post([pending, status] { pending.finish(status); });
                             });
  });
}

void ImportHandle::released(FileSystem& fs) {
  Import& import = *inode()->import;
  if (!writes_ || !import.end_writing()) return;
  const std::string name = fs.imports().name_of(inode()->id.namespace_id, import);
  if (name.empty()) return;
  spdlog::warn(
      "import of {}/{}: dropped: it was closed with {} bytes that are no prefix file of that name",
      inode()->ns->name(), name, import.facts().bytes);
  fs.imports().remove(inode()->id.namespace_id, import);
}

}  // namespace kvfs::mount
