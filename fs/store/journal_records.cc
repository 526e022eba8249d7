#include "fs/store/journal_records.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "lib/format/json_text.h"

namespace kvfs::store {

std::string encode_block(const BlockHead& head, std::span<const BlockGroup> groups,
                         std::span<const Token> tokens) {
  std::string bytes(sizeof head + groups.size_bytes() + tokens.size_bytes(), '\0');
  char* at = bytes.data();
  std::memcpy(at, &head, sizeof head);
  std::memcpy(at + sizeof head, groups.data(), groups.size_bytes());
  std::memcpy(at + sizeof head + groups.size_bytes(), tokens.data(), tokens.size_bytes());
  return bytes;
}

std::optional<BlockRecord> BlockRecord::parse(std::span<const std::byte> bytes,
                                              std::uint32_t groups, std::uint32_t block_tokens) {
  BlockRecord record;
  if (bytes.size() !=
      sizeof(BlockHead) + groups * sizeof(BlockGroup) + block_tokens * sizeof(Token)) {
    return std::nullopt;
  }
  std::memcpy(&record.head_, bytes.data(), sizeof record.head_);
  if (record.head_.groups != groups || record.head_.tokens != block_tokens) return std::nullopt;
  record.bytes_ = bytes;
  return record;
}

BlockGroup BlockRecord::group(std::uint32_t index) const {
  BlockGroup group;
  std::memcpy(&group, bytes_.data() + sizeof(BlockHead) + index * sizeof group, sizeof group);
  return group;
}

void BlockRecord::tokens(std::span<Token> out) const {
  std::memcpy(out.data(), bytes_.data() + bytes_.size() - out.size_bytes(), out.size_bytes());
}

std::string encode_namespace(const NamespaceRecord& record) {
  return json_text({{"name", record.name},
                    {"geometry", to_json(record.geometry)},
                    {"uid", record.ownership.uid},
                    {"gid", record.ownership.gid},
                    {"mode", record.ownership.mode},
                    {"created", record.created_at}});
}

Result<NamespaceRecord> decode_namespace(std::uint32_t id, std::string_view json) {
  const auto damaged = [&](const std::string& why) {
    return fail(Code::kCorrupt, "the journal's record of namespace " + std::to_string(id) +
                                    " is damaged (" + why + "): restore the state directory");
  };
  const nlohmann::json parsed = nlohmann::json::parse(json, nullptr, false);
  if (!parsed.is_object()) return damaged("not a JSON object");
  for (const char* number : {"uid", "gid", "mode", "created"}) {
    if (!parsed.contains(number) || !parsed[number].is_number_unsigned()) {
      return damaged(std::string("no number '") + number + "'");
    }
  }
  if (!parsed.contains("name") || !parsed["name"].is_string()) return damaged("no name");
  if (!parsed.contains("geometry")) return damaged("no geometry");
  Result<Geometry> geometry = geometry_from_json(parsed["geometry"]);
  if (!geometry) return damaged(geometry.error().message);
  return NamespaceRecord{.id = id,
                         .name = parsed["name"].get<std::string>(),
                         .geometry = *std::move(geometry),
                         .ownership = {.uid = parsed["uid"].get<uid_t>(),
                                       .gid = parsed["gid"].get<gid_t>(),
                                       .mode = parsed["mode"].get<mode_t>()},
                         .created_at = parsed["created"].get<std::uint32_t>()};
}

}  // namespace kvfs::store
