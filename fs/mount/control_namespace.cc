#include "fs/mount/control_namespace.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "fs/mount/control_json.h"
#include "fs/mount/file_system.h"

namespace kvfs::mount {
namespace {

using nlohmann::json;

// Everything an operation needs.
struct Call {
  FileSystem& fs;
  store::Namespace& ns;
  const json& request;
};

constexpr std::uint64_t kDefaultPage = 1000;
constexpr std::uint64_t kMaxPage = 10000;
constexpr std::size_t kMaxVerified = 1024;  // blocks a request: it ends soon when the daemon is to

struct Page {
  std::uint64_t cursor;
  std::size_t limit;
};

Result<Page> page_fields(const json& request, std::uint64_t default_limit,
                         std::uint64_t max_limit) {
  auto cursor = number_field(request, "cursor", 0);
  if (!cursor) return pass(std::move(cursor));
  auto limit = number_field(request, "limit", default_limit);
  if (!limit) return pass(std::move(limit));
  if (*limit == 0 || *limit > max_limit)
    return fail(Code::kInvalid, fmt::format("'limit' is not within 1..{}", max_limit));
  return Page{*cursor, static_cast<std::size_t>(*limit)};
}

// The cursor for the next page, when this one was full.
json next_of(std::size_t filled, std::size_t limit, std::uint64_t cookie) {
  return filled < limit ? json() : json(cookie);
}

Answer list(const Call& call) {
  if (auto status = only_fields(call.request, {"cursor", "limit"}); !status)
    return pass(std::move(status));
  auto page = page_fields(call.request, kDefaultPage, kMaxPage);
  if (!page) return pass(std::move(page));
  std::vector<store::PrefixEntry> entries;
  call.ns.list(page->cursor, page->limit, entries);
  json prefixes = json::array();
  for (const auto& entry : entries) {
    if (const auto info = call.ns.find(entry.key)) prefixes.push_back(prefix_json(call.ns, *info));
  }
  return json{
      {"prefixes", std::move(prefixes)},
      {"next", next_of(entries.size(), page->limit, entries.empty() ? 0 : entries.back().cookie)}};
}

json node_json(const store::Namespace& ns, const store::PrefixInfo& info) {
  std::uint64_t slot_bytes = 0;  // of a block with all groups
  for (std::size_t group = 0; group < ns.geometry().groups.size(); ++group)
    slot_bytes += ns.geometry().slot_bytes(group);
  return {
      {"key", to_hex(info.key)},
      {"parent", info.parent.is_zero() ? json() : json(to_hex(info.parent))},
      {"blocks", info.blocks},
      {"own_blocks", info.own_bytes / slot_bytes},
      {"tiers", {{"gpu", info.gpu_blocks}, {"dram", info.dram_blocks}, {"nvme", info.nvme_blocks}}},
      {"hits", info.hits},
      {"pinned", info.pinned},
      {"names", ns.names_of(info.key)}};
}

Answer tree(const Call& call) {
  if (auto status = only_fields(call.request, {"cursor", "limit"}); !status)
    return pass(std::move(status));
  auto page = page_fields(call.request, kDefaultPage, kMaxPage);
  if (!page) return pass(std::move(page));
  std::vector<std::pair<store::PrefixInfo, std::uint64_t>> entries;
  call.ns.tree(page->cursor, page->limit, entries);
  json nodes = json::array();
  for (const auto& [info, cookie] : entries) nodes.push_back(node_json(call.ns, info));
  return json{
      {"nodes", std::move(nodes)},
      {"next", next_of(entries.size(), page->limit, entries.empty() ? 0 : entries.back().second)}};
}

// The cached prefix that the request names by `key` or `name`, its only fields.
Result<store::PrefixInfo> named_prefix(const Call& call) {
  if (auto status = only_fields(call.request, {"key", "name"}); !status)
    return pass(std::move(status));
  auto key = key_field(call.request, call.ns);
  if (!key) return pass(std::move(key));
  const auto info = call.ns.find(*key);
  if (!info)
    return fail(Code::kNotFound,
                fmt::format("{} is not cached in {}", to_hex(*key), call.ns.name()));
  return *info;
}

Answer stat(const Call& call) {
  auto info = named_prefix(call);
  if (!info) return pass(std::move(info));
  return prefix_json(call.ns, *info);
}

Answer tokens(const Call& call) {
  if (auto status = only_fields(call.request, {"key", "name"}); !status)
    return pass(std::move(status));
  auto key = key_field(call.request, call.ns);
  if (!key) return pass(std::move(key));
  auto tokens = call.ns.tokens(*key);
  if (!tokens) return pass(std::move(tokens));
  return json{{"tokens", std::move(*tokens)}};
}

Answer set_pinned(const Call& call, bool pinned) {
  if (auto status = only_fields(call.request, {"key", "name"}); !status)
    return pass(std::move(status));
  auto key = key_field(call.request, call.ns);
  if (!key) return pass(std::move(key));
  if (auto status = call.ns.set_pinned(*key, pinned); !status) return pass(std::move(status));
  return json::object();
}
Answer pin(const Call& call) { return set_pinned(call, true); }
Answer unpin(const Call& call) { return set_pinned(call, false); }

Result<store::Evicted> evict_what(const Call& call) {
  const json& request = call.request;
  if (request.contains("all")) {
    auto all = bool_field(request, "all", false);
    if (!all) return pass(std::move(all));
    if (*all) return call.ns.evict_all();
    return fail(Code::kInvalid, "'all' can only be true");
  }
  if (request.contains("tier")) {
    auto tier = text_field(request, "tier");
    if (!tier) return pass(std::move(tier));
    auto bytes = number_field(request, "bytes");
    if (!bytes) return pass(std::move(bytes));
    return call.ns.evict_bytes(*tier, *bytes);
  }
  auto key = key_field(request, call.ns);
  if (!key)
    return fail(key.error().code,
                key.error().message + " (evict takes 'key', 'tier' and 'bytes', or 'all')");
  return call.ns.evict(*key);
}

Answer evict(const Call& call) {
  if (auto status = only_fields(call.request, {"key", "name", "tier", "bytes", "all"}); !status)
    return pass(std::move(status));
  auto evicted = evict_what(call);
  if (!evicted) return pass(std::move(evicted));
  return evicted_json(*evicted);
}

Answer prefetch(const Call& call) {
  auto info = named_prefix(call);
  if (!info) return pass(std::move(info));
  if (auto status = call.ns.prefetch(info->key); !status) return pass(std::move(status));
  return json{{"blocks", info->blocks - std::min(info->blocks, info->dram_blocks)}};
}

Answer verify(const Call& call) {
  if (auto status = only_fields(call.request, {"cursor", "limit"}); !status)
    return pass(std::move(status));
  auto page = page_fields(call.request, 256, 1 << 16);
  if (!page) return pass(std::move(page));
  auto verified = call.ns.verify(page->cursor, std::min(page->limit, kMaxVerified));
  if (!verified) return pass(std::move(verified));
  json bad = json::array();
  for (const auto& block : verified->bad) {
    bad.push_back({{"key", to_hex(block.key)}, {"tier", block.tier}, {"group", block.group}});
  }
  json unread = json::array();
  for (const auto& block : verified->unread) {
    unread.push_back({{"key", to_hex(block.key)}, {"group", block.group}, {"why", block.why}});
  }
  return json{{"checked", verified->checked},
              {"bytes", verified->bytes},
              {"total", verified->total},
              {"bad", std::move(bad)},
              {"unread", std::move(unread)},
              {"next", verified->next == 0 ? json() : json(verified->next)}};
}

// Held until the flush is over.
Status flush_prefix(const Call& call, store::Deadline deadline, store::Done done) {
  auto key = key_field(call.request, call.ns);
  if (!key) return pass(std::move(key));
  auto lease = call.ns.lease(*key, /*quiet=*/true);
  if (!lease) return pass(std::move(lease));
  const std::shared_ptr<store::Lease> held = *std::move(lease);
  held->flush(deadline, [held, done = std::move(done)](Status status) { done(std::move(status)); });
  return {};
}

Status begin_flush(const Call& call, store::Done done) {
  if (auto status = only_fields(call.request, {"key", "name", "timeout_s"}); !status) return status;
  auto deadline = deadline_field(call.request, call.fs.config().flush_timeout);
  if (!deadline) return pass(std::move(deadline));
  if (call.request.contains("key") || call.request.contains("name"))
    return flush_prefix(call, *deadline, std::move(done));
  call.ns.flush(*deadline, std::move(done));
  return {};
}

void flush(const Call& call, const ControlRespond& respond) {
  const Status begun = begin_flush(call, respond_when_done(call.fs, respond));
  if (!begun) respond(failure(begun.error()), nullptr);
}

struct Operation {
  std::string_view name;
  Answer (*run)(const Call&);
};
constexpr std::array<Operation, 9> kOperations{{{"list", list},
                                                {"tree", tree},
                                                {"stat", stat},
                                                {"tokens", tokens},
                                                {"pin", pin},
                                                {"unpin", unpin},
                                                {"evict", evict},
                                                {"prefetch", prefetch},
                                                {"verify", verify}}};

Answer run(const Call& call) {
  auto op = text_field(call.request, "op");
  if (!op) return pass(std::move(op));
  std::string known;
  for (const Operation& operation : kOperations) {
    if (operation.name == *op) return operation.run(call);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", operation.name);
  }
  return fail(Code::kInvalid,
              fmt::format("a namespace has no operation '{}': {}, flush", *op, known));
}

}  // namespace

void control_namespace(FileSystem& fs, const Inode& inode, const json& request,
                       const ControlRespond& respond) {
  if (!request.is_object()) return respond(not_an_object(), nullptr);
  const Call call{fs, *inode.ns, request};
  if (is_op(request, "flush")) return flush(call, respond);
  respond(as_answer(run(call)), nullptr);
}

}  // namespace kvfs::mount
