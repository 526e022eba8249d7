#include "fs/mount/control_store.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <nlohmann/json.hpp>

#include "fs/mount/control_json.h"
#include "fs/mount/file_system.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {
namespace {

using nlohmann::json;

Result<store::Ownership> ownership_fields(FileSystem& fs, const json& request) {
  auto uid = number_field(request, "uid", fs.owner().uid);
  if (!uid) return pass(std::move(uid));
  auto gid = number_field(request, "gid", fs.owner().gid);
  if (!gid) return pass(std::move(gid));
  auto mode = number_field(request, "mode", 0755);
  if (!mode) return pass(std::move(mode));
  if (*mode > 0777) return fail(Code::kInvalid, "'mode' is over 0777 (511)");
  return store::Ownership{static_cast<uid_t>(*uid), static_cast<gid_t>(*gid),
                          static_cast<mode_t>(*mode)};
}

Answer ns_create(FileSystem& fs, const json& request) {
  if (auto status = only_fields(request, {"name", "geometry", "uid", "gid", "mode"}); !status)
    return pass(std::move(status));
  auto name = text_field(request, "name");
  if (!name) return pass(std::move(name));
  if (auto status = store::check_name(*name); !status) return pass(std::move(status));
  if (!request.contains("geometry")) return fail(Code::kInvalid, "'geometry' is missing");
  auto geometry = geometry_from_json(request["geometry"]);
  if (!geometry) return pass(std::move(geometry));
  auto owner = ownership_fields(fs, request);
  if (!owner) return pass(std::move(owner));
  const MutexLock lock(fs.root_names());
  if (fs.plain() != nullptr && fs.plain()->find(*name) != nullptr) {
    return fail(Code::kExists, fmt::format("'{}' is a plain directory: take another name, or "
                                           "remove it",
                                           *name));
  }
  auto created = fs.store().create_namespace(*name, *geometry, *owner);
  if (!created) return pass(std::move(created));
  return json{{"created", created->second}};
}

Answer ns_remove(FileSystem& fs, const json& request) {
  if (auto status = only_fields(request, {"name", "force"}); !status)
    return pass(std::move(status));
  auto name = text_field(request, "name");
  if (!name) return pass(std::move(name));
  auto force = bool_field(request, "force", false);
  if (!force) return pass(std::move(force));
  auto evicted = fs.store().remove_namespace(
      *name, *force ? store::RemoveIf::kNotInUse : store::RemoveIf::kNothingIsPinned);
  if (!evicted) return pass(std::move(evicted));
  fs.notifier().catch_up();  // whoever looks after the answer is not to see it any more
  return evicted_json(*evicted);
}

Answer shutdown(FileSystem& fs, const json& request, std::function<void()>& after) {
  if (auto status = only_fields(request, {"drop_dram"}); !status) return pass(std::move(status));
  ShutdownRequest wanted;
  if (request.contains("drop_dram")) {
    auto drop = bool_field(request, "drop_dram", false);
    if (!drop) return pass(std::move(drop));
    wanted.drop_dram = *drop;
  }
  after = [&fs, wanted] { fs.shut_down(wanted); };
  return json::object();
}

Result<store::Deadline> flush_deadline(FileSystem& fs, const json& request) {
  if (auto status = only_fields(request, {"timeout_s"}); !status) return pass(std::move(status));
  return deadline_field(request, fs.config().flush_timeout);
}

void flush(FileSystem& fs, const json& request, const ControlRespond& respond) {
  const auto deadline = flush_deadline(fs, request);
  if (!deadline) return respond(failure(deadline.error()), nullptr);
  fs.store().flush(*deadline, respond_when_done(fs, respond));
}

Answer plain_verify(FileSystem& fs, const json& request) {
  if (auto status = only_fields(request, {"name"}); !status) return pass(std::move(status));
  auto name = text_field(request, "name");
  if (!name) return pass(std::move(name));
  const auto directory = fs.plain() == nullptr ? nullptr : fs.plain()->find(*name);
  if (directory == nullptr)
    return fail(Code::kNotFound, fmt::format("no plain directory is named '{}'", *name));
  const plain::Verification verified = fs.plain()->verify(directory, fs.ending());
  json unread = json::array();
  for (const auto& [path, why] : verified.unread) unread.push_back({{"path", path}, {"why", why}});
  return json{{"checked", verified.files},
              {"bytes", verified.bytes},
              {"bad", verified.bad},
              {"kept", verified.kept},
              {"unread", std::move(unread)}};
}

Answer config(FileSystem& fs) {
  std::ostringstream text;
  text << toml::json_formatter{toml::parse(config_toml(fs.config()))};
  return json{{"config", json::parse(text.str())}};
}

Answer run(FileSystem& fs, const json& request, std::function<void()>& after) {
  auto op = text_field(request, "op");
  if (!op) return pass(std::move(op));
  if (*op == "ns_create") return ns_create(fs, request);
  if (*op == "ns_remove") return ns_remove(fs, request);
  if (*op == "shutdown") return shutdown(fs, request, after);
  if (*op == "config") return config(fs);
  if (*op == "plain_verify") return plain_verify(fs, request);
  return fail(
      Code::kInvalid,
      fmt::format("the store has no operation '{}': ns_create, ns_remove, shutdown, flush, config, "
                  "plain_verify",
                  *op));
}

}  // namespace

void control_store(FileSystem& fs, const Inode&, const json& request,
                   const ControlRespond& respond) {
  if (!request.is_object()) return respond(not_an_object(), nullptr);
  if (is_op(request, "flush")) return flush(fs, request, respond);
  std::function<void()> after;
  json answer = as_answer(run(fs, request, after));
  respond(std::move(answer), std::move(after));
}

}  // namespace kvfs::mount
