#include "tools/cli/store_view.h"

#include <fmt/format.h>

#include <cmath>

#include "tools/cli/stats_file.h"
#include "tools/cli/table.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kGauge = 16;

Cell gauge(std::uint64_t used, std::uint64_t capacity) {
  const double share =
      capacity == 0 ? 0 : static_cast<double>(used) / static_cast<double>(capacity);
  const auto full = static_cast<std::size_t>(std::lround(std::min(1.0, share) * kGauge));
  std::string bar;
  for (std::size_t i = 0; i < kGauge; ++i) bar += i < full ? "█" : "░";
  return {fmt::format("{} {:3.0f} %", bar, 100 * share), share > 0.9 ? Tint::kWarn : Tint::kGood};
}

std::string headline(const Snapshot& now, const Terminal& terminal) {
  const json none = json::object();
  const json& store = now.store.contains("store") ? now.store["store"] : none;
  const json& fuse = now.store.contains("fuse") ? now.store["fuse"] : none;
  std::string line = terminal.tint(Tint::kBold, now.mount);
  line += fmt::format("  up {}", human_age(store.value("uptime_seconds", 0.0)));
  line += fuse.value("passthrough", false)
              ? "  passthrough"
              : terminal.tint(Tint::kWarn, "  no passthrough: clients copy through read(2)");
  return line + "\n";
}

Cell errors_cell(std::uint64_t errors) {
  return {human_count(errors), errors > 0 ? Tint::kBad : Tint::kNone};
}

std::string tier_table(const Snapshot& now, const Terminal& terminal) {
  Table table({{"tier"},
               {"size", Align::kRight},
               {"used", Align::kRight},
               {""},
               {"blocks", Align::kRight},
               {"in", Align::kRight},
               {"out", Align::kRight},
               {"queued", Align::kRight},
               {"errors", Align::kRight}});
  for (const TierRow& tier : tier_rows(now.store)) {
    table.add({{tier.name, Tint::kBold},
               human_bytes(tier.capacity),
               human_bytes(tier.used),
               gauge(tier.used, tier.capacity),
               human_count(tier.blocks),
               human_bytes(tier.bytes_in),
               human_bytes(tier.bytes_out),
               human_count(tier.queued),
               errors_cell(tier.errors)});
  }
  return table.render(terminal);
}

std::string writeback_line(const Snapshot& now) {
  const std::uint64_t dirty = count_of(now.store, "dirty_bytes");
  const std::uint64_t quarantined = count_of(now.store, "quarantined_bytes");
  if (dirty == 0 && quarantined == 0) return "";
  std::string line = fmt::format("{} of {} wait for NVMe", human_bytes(dirty),
                                 human_bytes(count_of(now.store, "writeback_backlog")));
  if (quarantined > 0)
    line += fmt::format(", {} rest after a writer's death", human_bytes(quarantined));
  return line + "\n";
}

// The daemon's own quantiles, since its start: upper bounds of powers of two.
std::string latency_line(const json& store) {
  const auto latency = store.find("latency");
  if (latency == store.end()) return "";
  std::string line;
  for (const auto& [name, histogram] : latency->items()) {
    if (count_of(histogram, "count") == 0) continue;
    const auto bound = [&histogram = histogram](const char* quantile) {
      return human_seconds(static_cast<double>(count_of(histogram, quantile)) * 1e-6);
    };
    line += fmt::format("{}{} p50 ≤ {}, p99 ≤ {}", line.empty() ? "" : "   ", name, bound("p50_us"),
                        bound("p99_us"));
  }
  return line.empty() ? line : "\n" + line + "\n";
}

std::uint64_t evictions_of(const json& stats) {
  std::uint64_t sum = 0;
  const auto evictions = stats.find("evictions");
  if (evictions == stats.end() || !evictions->is_object()) return 0;
  for (const auto& [reason, blocks] : evictions->items()) {
    if (blocks.is_number()) sum += blocks.get<std::uint64_t>();
  }
  return sum;
}

// "packed 1.35x"; yellow where blocks would not go into their slots.
Cell encoding_cell(const json& stats) {
  const std::string encoding = text_of(stats, "encoding");
  if (encoding.empty() || encoding == "raw") return encoding;
  const std::uint64_t refused = count_of(stats, "unpackable_blocks");
  std::string text = fmt::format("{} {:.2f}x", encoding, stats.value("ratio", 1.0));
  if (refused > 0) text += fmt::format(", {} refused", human_count(refused));
  return {text, refused > 0 ? Tint::kWarn : Tint::kNone};
}

std::string namespace_table(const Snapshot& now, const Terminal& terminal) {
  Table table({{"namespace", Align::kLeft, true},
               {"encoding"},
               {"blocks", Align::kRight},
               {"prefixes", Align::kRight},
               {"dram", Align::kRight},
               {"nvme", Align::kRight},
               {"hit rate", Align::kRight},
               {"leases", Align::kRight},
               {"pinned", Align::kRight},
               {"stored", Align::kRight},
               {"loaded", Align::kRight},
               {"evicted", Align::kRight}});
  for (const json& stats : now.namespaces) {
    table.add({{text_of(stats, "name"), Tint::kBold},
               encoding_cell(stats),
               human_count(count_of(stats, "blocks")),
               human_count(count_of(stats, "prefixes")),
               human_bytes(tier_bytes(stats, "dram")),
               human_bytes(tier_bytes(stats, "nvme")),
               hit_rate(stats),
               human_count(count_of(stats, "leases_open")),
               human_count(count_of(stats, "pinned")),
               human_bytes(count_of(stats, "stored_bytes")),
               human_bytes(count_of(stats, "loaded_bytes")),
               human_count(evictions_of(stats))});
  }
  return table.empty() ? "no namespaces: make one with kvfs ns create\n" : table.render(terminal);
}

// What the daemon removed: for room, and what was not whole any more.
Cell lost_cell(const json& evictions) {
  const std::uint64_t corrupt = count_of(evictions, "corrupt");
  std::string text = human_count(count_of(evictions, "files"));
  if (corrupt > 0) text += fmt::format(", {} corrupt", human_count(corrupt));
  return {text, corrupt > 0 ? Tint::kBad : Tint::kNone};
}

// Nothing where there are none.
std::string plain_table(const Snapshot& now, const Terminal& terminal) {
  const auto plain = now.store.find("plain");
  if (plain == now.store.end() || !plain->is_object()) return "";
  Table table({{"directory", Align::kLeft, true},
               {"quota", Align::kRight},
               {"used", Align::kRight},
               {""},
               {"files", Align::kRight},
               {"hit rate", Align::kRight},
               {"evicted", Align::kRight},
               {"by", Align::kLeft}});
  for (const json& stats : plain->value("directories", json::array())) {
    const auto hits = static_cast<double>(count_of(stats, "hits"));
    table.add({{text_of(stats, "name"), Tint::kBold},
               human_bytes(count_of(stats, "quota")),
               human_bytes(count_of(stats, "bytes")),
               gauge(count_of(stats, "bytes"), count_of(stats, "quota")),
               human_count(count_of(stats, "files")),
               percent(hits, hits + static_cast<double>(count_of(stats, "misses"))),
               lost_cell(stats.value("evictions", json::object())),
               {text_of(stats, "unit")}});
  }
  return table.empty() ? "" : "\n" + table.render(terminal);
}

// Differences per second between two snapshots of one object.
class Rates {
 public:
  Rates(const json& before, const json& now, double seconds)
      : before_(before), now_(now), seconds_(seconds) {}
  [[nodiscard]] double of(const char* name) const {
    const std::uint64_t from = count_of(before_, name);
    const std::uint64_t to = count_of(now_, name);
    return to <= from || seconds_ <= 0 ? 0 : static_cast<double>(to - from) / seconds_;
  }
  [[nodiscard]] std::string bytes(const char* name) const { return human_rate(of(name)); }
  [[nodiscard]] std::string count(const char* name) const {
    return fmt::format("{:.0f}/s", of(name));
  }

 private:
  const json& before_;
  const json& now_;
  double seconds_;
};

const json& tier_of(const json& store, const char* name) {
  static const json kNone = json::object();
  const auto tiers = store.find("tiers");
  if (tiers == store.end()) return kNone;
  const auto tier = tiers->find(name);
  return tier == tiers->end() ? kNone : *tier;
}

std::string tier_rates(const Snapshot& before, const Snapshot& now, double seconds,
                       const Terminal& terminal) {
  Table table({{"tier"},
               {"used", Align::kRight},
               {""},
               {"in", Align::kRight},
               {"out", Align::kRight},
               {"queued", Align::kRight},
               {"errors", Align::kRight}});
  for (const TierRow& tier : tier_rows(now.store)) {
    const Rates rates(tier_of(before.store, tier.name.c_str()),
                      tier_of(now.store, tier.name.c_str()), seconds);
    table.add({{tier.name, Tint::kBold},
               human_bytes(tier.used),
               gauge(tier.used, tier.capacity),
               rates.bytes("bytes_in"),
               rates.bytes("bytes_out"),
               human_count(tier.queued),
               errors_cell(tier.errors)});
  }
  return table.render(terminal);
}

const json& namespace_of(const Snapshot& snapshot, const std::string& name) {
  static const json kNone = json::object();
  for (const json& stats : snapshot.namespaces) {
    if (text_of(stats, "name") == name) return stats;
  }
  return kNone;
}

std::string namespace_rates(const Snapshot& before, const Snapshot& now, double seconds,
                            const Terminal& terminal) {
  Table table({{"namespace", Align::kLeft, true},
               {"blocks", Align::kRight},
               {"leases", Align::kRight},
               {"hit blocks", Align::kRight},
               {"missed", Align::kRight},
               {"loaded", Align::kRight},
               {"stored", Align::kRight},
               {"promoted", Align::kRight},
               {"written back", Align::kRight}});
  for (const json& stats : now.namespaces) {
    const Rates rates(namespace_of(before, text_of(stats, "name")), stats, seconds);
    table.add({{text_of(stats, "name"), Tint::kBold},
               human_count(count_of(stats, "blocks")),
               rates.count("leases_total"),
               rates.count("hit_blocks"),
               rates.count("missed_blocks"),
               rates.bytes("loaded_bytes"),
               rates.bytes("stored_bytes"),
               rates.bytes("promoted_bytes"),
               rates.bytes("written_back_bytes")});
  }
  return table.render(terminal);
}

}  // namespace

Result<Snapshot> take_snapshot(const std::string& mount) {
  Snapshot snapshot{.mount = mount, .taken = std::chrono::steady_clock::now()};
  Result<json> store = read_store_stats(mount);
  if (!store) return pass(std::move(store));
  snapshot.store = std::move(*store);
  Result<std::vector<json>> namespaces = all_namespace_stats(mount);
  if (!namespaces) return pass(std::move(namespaces));
  snapshot.namespaces = std::move(*namespaces);
  return snapshot;
}

std::string hit_rate(const json& stats) {
  const auto hit = static_cast<double>(count_of(stats, "hit_blocks"));
  return percent(hit, hit + static_cast<double>(count_of(stats, "missed_blocks")));
}

std::string render_status(const Snapshot& now, const Terminal& terminal) {
  return headline(now, terminal) + "\n" + tier_table(now, terminal) + writeback_line(now) + "\n" +
         namespace_table(now, terminal) + plain_table(now, terminal) + latency_line(now.store);
}

std::string render_top(const Snapshot& before, const Snapshot& now, const Terminal& terminal) {
  const double seconds = std::chrono::duration<double>(now.taken - before.taken).count();
  return headline(now, terminal) + "\n" + tier_rates(before, now, seconds, terminal) +
         writeback_line(now) + "\n" + namespace_rates(before, now, seconds, terminal) + "\n" +
         latency_line(now.store);
}

}  // namespace kvfs::cli
