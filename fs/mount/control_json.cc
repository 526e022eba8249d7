#include "fs/mount/control_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "fs/mount/stats_json.h"

namespace kvfs::mount {

using nlohmann::json;

json failure(const Error& error) {
  return {{"ok", false}, {"code", std::string(code_name(error.code))}, {"error", error.message}};
}

json not_an_object() {
  return failure({Code::kInvalid, "the request is not a JSON object: write {\"op\": ...}"});
}

json as_answer(Answer&& answer) {
  if (!answer) return failure(answer.error());
  json out = std::move(*answer);
  out["ok"] = true;
  return out;
}

bool is_op(const json& request, const char* op) {
  const auto field = request.find("op");
  return field != request.end() && *field == op;
}

Result<std::string> text_field(const json& request, const char* name) {
  const auto field = request.find(name);
  if (field == request.end() || !field->is_string()) {
    return fail(Code::kInvalid, fmt::format("'{}' is missing or no string", name));
  }
  return field->get<std::string>();
}

Result<std::uint64_t> number_field(const json& request, const char* name) {
  const auto field = request.find(name);
  if (field == request.end() || !field->is_number_integer() || (*field < 0)) {
    return fail(Code::kInvalid, fmt::format("'{}' is missing or no whole number >= 0", name));
  }
  return field->get<std::uint64_t>();
}

Result<std::uint64_t> number_field(const json& request, const char* name, std::uint64_t absent) {
  const auto field = request.find(name);
  if (field == request.end() || field->is_null()) return absent;
  return number_field(request, name);
}

Result<bool> bool_field(const json& request, const char* name, bool absent) {
  const auto field = request.find(name);
  if (field == request.end()) return absent;
  if (!field->is_boolean())
    return fail(Code::kInvalid, fmt::format("'{}' is neither true nor false", name));
  return field->get<bool>();
}

Result<store::Deadline> deadline_field(const json& request, std::chrono::milliseconds absent) {
  const auto field = request.find("timeout_s");
  if (field == request.end()) return store::Clock::now() + absent;
  if (!field->is_number() || !(field->get<double>() >= 0) || field->get<double>() > 1e6) {
    return fail(Code::kInvalid, "'timeout_s' is no number of seconds from 0 to 1000000");
  }
  return store::Clock::now() + std::chrono::milliseconds(std::llround(field->get<double>() * 1e3));
}

Status only_fields(const json& request, std::initializer_list<const char*> known) {
  for (const auto& field : request.items()) {
    const std::string& name = field.key();
    if (name == "op") continue;
    if (std::ranges::none_of(known, [&](const char* one) { return name == one; })) {
      return fail(Code::kInvalid,
                  fmt::format("'{}' is no field of '{}'", name, request["op"].get<std::string>()));
    }
  }
  return {};
}

Result<Key> key_field(const json& request, const store::Namespace& ns) {
  if (request.contains("name")) {
    auto name = text_field(request, "name");
    if (!name) return pass(std::move(name));
    if (const auto key = ns.name(*name)) return *key;
    if (const auto key = key_from_file_name(*name)) return *key;
    return fail(Code::kNotFound, fmt::format("no prefix of {} is named '{}'", ns.name(), *name));
  }
  auto text = text_field(request, "key");
  if (!text) return fail(Code::kInvalid, "neither 'key' nor 'name' is given");
  if (const auto key = key_from_hex(*text)) return *key;
  return fail(Code::kInvalid, fmt::format("'{}' is no key: it has 32 hex digits", *text));
}

json prefix_json(const store::Namespace& ns, const store::PrefixInfo& info) {
  return {
      {"key", to_hex(info.key)},
      {"blocks", info.blocks},
      {"tokens", std::uint64_t{info.blocks} * ns.geometry().block_tokens},
      {"file_bytes", info.file_bytes},
      {"encoding", encoding_name(ns.geometry().encoding)},
      {"ratio", packing_ratio(ns.geometry())},
      {"tiers", {{"gpu", info.gpu_blocks}, {"dram", info.dram_blocks}, {"nvme", info.nvme_blocks}}},
      {"hits", info.hits},
      {"stored_at", static_cast<double>(info.stored_at)},
      {"last_hit", static_cast<double>(info.last_hit)},
      {"pinned", info.pinned},
      {"label", info.label},
      {"parent", info.parent.is_zero() ? json() : json(to_hex(info.parent))},
      {"names", ns.names_of(info.key)},
      {"own_bytes", info.own_bytes},
      {"shared_bytes", info.shared_bytes},
      {"leases", info.leases},
      {"leaf", info.leaf}};
}

json evicted_json(const store::Evicted& evicted) {
  return {{"blocks", evicted.blocks},
          {"bytes", evicted.bytes},
          {"kept",
           {{"leased", evicted.kept_leased},
            {"pinned", evicted.kept_pinned},
            {"shared", evicted.kept_shared}}}};
}

}  // namespace kvfs::mount
