#include "fs/mount/xattrs.h"

#include <fmt/format.h>
#include <sys/xattr.h>

#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

namespace kvfs::mount {
namespace {

constexpr std::string_view kPinned = "user.kvfs.pinned";
constexpr std::string_view kLabel = "user.kvfs.label";

using Info = store::PrefixInfo;
using Ns = store::Namespace;

// An attribute without a value is absent.
struct PrefixAttribute {
  std::string_view name;
  std::optional<std::string> (*get)(const Ns&, const Info&);
};

std::string tiers_text(const Info& info) {
  std::string text;
  for (const auto& [tier, blocks] : {std::pair("gpu", info.gpu_blocks),
                                     {"dram", info.dram_blocks},
                                     {"nvme", info.nvme_blocks}}) {
    if (blocks != 0) text += fmt::format("{}{}:{}", text.empty() ? "" : " ", tier, blocks);
  }
  return text;
}

constexpr std::array<PrefixAttribute, 8> kPrefixAttributes{{
    {"user.kvfs.tokens",
     [](const Ns& ns, const Info& info) -> std::optional<std::string> {
       return std::to_string(std::uint64_t{info.blocks} * ns.geometry().block_tokens);
     }},
    {"user.kvfs.blocks",
     [](const Ns&, const Info& info) -> std::optional<std::string> {
       return std::to_string(info.blocks);
     }},
    {"user.kvfs.tiers",
     [](const Ns&, const Info& info) -> std::optional<std::string> { return tiers_text(info); }},
    {"user.kvfs.hits",
     [](const Ns&, const Info& info) -> std::optional<std::string> {
       return std::to_string(info.hits);
     }},
    {"user.kvfs.model",
     [](const Ns& ns, const Info&) -> std::optional<std::string> { return ns.geometry().model; }},
    {"user.kvfs.parent",
     [](const Ns&, const Info& info) -> std::optional<std::string> {
       if (info.parent.is_zero()) return std::nullopt;
       return to_hex(info.parent);
     }},
    {kPinned,
     [](const Ns&, const Info& info) -> std::optional<std::string> {
       return info.pinned ? "1" : "0";
     }},
    {kLabel,
     [](const Ns&, const Info& info) -> std::optional<std::string> {
       if (info.label.empty()) return std::nullopt;
       return info.label;
     }},
}};

struct DirectoryAttribute {
  std::string_view name;
  std::string (*get)(const Ns&);
};

constexpr std::array<DirectoryAttribute, 3> kDirectoryAttributes{{
    {"user.kvfs.model", [](const Ns& ns) { return ns.geometry().model; }},
    {"user.kvfs.blocks", [](const Ns& ns) { return std::to_string(ns.stats().blocks); }},
    {"user.kvfs.geometry", [](const Ns& ns) { return to_json(ns.geometry()).dump(); }},
}};

auto refuse(Refusal refusal) { return tl::unexpected(to_errno(refusal)); }

XattrResult<void> outcome(const Status& status) {
  if (status) return {};
  return tl::unexpected(to_errno(status.error().code));
}

XattrResult<Info> info_of(const Inode& inode) {
  if (auto info = inode.ns->find(inode.id.key)) return *info;
  return refuse(Refusal::kNotFound);
}

bool is_read_only(std::string_view name) {
  return std::ranges::any_of(kPrefixAttributes,
                             [&](const auto& attribute) { return attribute.name == name; });
}

// XATTR_CREATE and XATTR_REPLACE.
XattrResult<void> check_flags(bool there, int flags) {
  if ((flags & XATTR_CREATE) != 0 && there) return refuse(Refusal::kExists);
  if ((flags & XATTR_REPLACE) != 0 && !there) return refuse(Refusal::kNoAttribute);
  return {};
}

}  // namespace

XattrResult<std::string> list_xattrs(const Inode& inode) {
  std::string names;
  const auto add = [&names](std::string_view name) { names.append(name).push_back('\0'); };
  if (inode.kind() == InodeKind::kNamespace) {
    for (const auto& attribute : kDirectoryAttributes) add(attribute.name);
  } else if (inode.kind() == InodeKind::kPrefix) {
    const auto info = info_of(inode);
    if (!info) return tl::unexpected(info.error());
    for (const auto& attribute : kPrefixAttributes) {
      if (attribute.get(*inode.ns, *info)) add(attribute.name);
    }
  }
  return names;
}

XattrResult<std::string> get_xattr(const Inode& inode, std::string_view name) {
  if (!name.starts_with("user.")) return refuse(Refusal::kNotSupported);
  if (inode.kind() == InodeKind::kNamespace) {
    for (const auto& attribute : kDirectoryAttributes) {
      if (attribute.name == name) return attribute.get(*inode.ns);
    }
  } else if (inode.kind() == InodeKind::kPrefix) {
    for (const auto& attribute : kPrefixAttributes) {
      if (attribute.name != name) continue;
      const auto info = info_of(inode);
      if (!info) return tl::unexpected(info.error());
      if (auto value = attribute.get(*inode.ns, *info)) return *value;
    }
  }
  return refuse(Refusal::kNoAttribute);
}

XattrResult<void> set_xattr(const Inode& inode, std::string_view name, std::string_view value,
                            int flags) {
  if (inode.kind() != InodeKind::kPrefix) return refuse(Refusal::kNotSupported);
  if (name == kPinned) {
    if (value != "0" && value != "1") return refuse(Refusal::kBadMessage);
    if (auto allowed = check_flags(true, flags); !allowed) return allowed;
    return outcome(inode.ns->set_pinned(inode.id.key, value == "1"));
  }
  if (name == kLabel) {
    const auto info = info_of(inode);
    if (!info) return tl::unexpected(info.error());
    if (auto allowed = check_flags(!info->label.empty(), flags); !allowed) return allowed;
    return outcome(inode.ns->set_label(inode.id.key, value));
  }
  return refuse(is_read_only(name) ? Refusal::kNotPermitted : Refusal::kNotSupported);
}

XattrResult<void> remove_xattr(const Inode& inode, std::string_view name) {
  if (inode.kind() != InodeKind::kPrefix) return refuse(Refusal::kNoAttribute);
  if (name == kPinned) return outcome(inode.ns->set_pinned(inode.id.key, false));
  if (name == kLabel) {
    const auto info = info_of(inode);
    if (!info) return tl::unexpected(info.error());
    if (info->label.empty()) return refuse(Refusal::kNoAttribute);
    return outcome(inode.ns->set_label(inode.id.key, ""));
  }
  return refuse(is_read_only(name) ? Refusal::kNotPermitted : Refusal::kNoAttribute);
}

}  // namespace kvfs::mount
