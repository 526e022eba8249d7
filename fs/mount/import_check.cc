#include "fs/mount/import_check.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "fs/store/reserve_waiting.h"
#include "gpu/block_codec.h"
#include "lib/format/checksum.h"

namespace kvfs::mount {
namespace {

// Slots held at once while the blocks go over: small against any DRAM tier, large against a
// request.
constexpr std::uint64_t kChunkBytes = 32ULL << 20;

// A prefix file being read, with what its tensors say.
struct Source {
  int file;
  const Geometry& geometry;
  PrefixHeader header;
  std::vector<Token> tokens;
  std::vector<ExtraAt> extras;
  std::vector<std::vector<std::uint64_t>> checksums;  // by group, from its first block
  std::vector<std::byte> shown = {};                  // a block's tensor as the file has it

  [[nodiscard]] std::uint64_t offset(BlockTensor tensor, std::uint32_t block,
                                     std::uint32_t group) const {
    return header.layout.offset(tensor, group) +
           (block - header.layout.first_block[group]) * geometry.tensor_bytes(tensor, group);
  }
  [[nodiscard]] std::uint64_t checksum(std::uint32_t block, std::uint32_t group) const {
    return checksums[group][block - header.layout.first_block[group]];
  }
};

Status read_exactly(int file, std::uint64_t offset, std::span<std::byte> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(file, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "reading the spool of an import");
    if (n == 0) return fail(Code::kInvalid, fmt::format("the file ends at byte {}", offset + done));
    done += static_cast<std::size_t>(n);
  }
  return {};
}

template <typename T>
Status read_array(int file, std::uint64_t offset, std::size_t count, std::vector<T>& out) {
  out.resize(count);
  return read_exactly(file, offset, std::as_writable_bytes(std::span(out)));
}

Result<PrefixHeader> read_header(int file, std::uint64_t file_bytes, const Geometry& geometry) {
  std::vector<std::byte> head(8);
  if (file_bytes < head.size()) {
    return fail(Code::kInvalid, fmt::format("{} bytes are too few for a prefix file", file_bytes));
  }
  if (auto status = read_exactly(file, 0, head); !status) return pass(std::move(status));
  auto header_bytes = prefix_header_bytes(head);
  if (!header_bytes) return pass(std::move(header_bytes));
  head.resize(static_cast<std::size_t>(std::min(*header_bytes, file_bytes)));
  if (auto status = read_exactly(file, 0, head); !status) return pass(std::move(status));
  return parse_prefix_header(head, file_bytes, geometry);
}

Status read_tables(Source& source) {
  const PrefixLayout& layout = source.header.layout;
  const std::size_t tokens = std::size_t{layout.blocks} * source.geometry.block_tokens;
  if (auto status = read_array(source.file, layout.tokens, tokens, source.tokens); !status)
    return status;
  std::vector<Extra> extras;
  if (auto status = read_array(source.file, layout.extras, layout.blocks, extras); !status)
    return status;
  for (std::uint32_t block = 0; block < layout.blocks; ++block) {
    if (!extras[block].is_zero()) source.extras.push_back({block, 0, extras[block]});
  }
  source.checksums.resize(layout.groups);
  for (std::uint32_t group = 0; group < layout.groups; ++group) {
    const std::size_t count = layout.blocks - layout.first_block[group];
    if (auto status =
            read_array(source.file, layout.checksums[group], count, source.checksums[group]);
        !status) {
      return status;
    }
  }
  return {};
}

Status check_keys(const Source& source) {
  if (std::ranges::any_of(source.tokens, [](Token token) { return token < 0; })) {
    return fail(Code::kInvalid, "a token is negative");
  }
  std::vector<Key> keys(source.header.blocks);
  chain_keys(source.geometry.seed(), source.tokens, source.geometry.block_tokens, source.extras,
             keys);
  if (keys.back() == source.header.key) return {};
  return fail(Code::kInvalid, fmt::format("tokens and extras have the key {}, the header says {}",
                                          to_hex(keys.back()), to_hex(source.header.key)));
}

// Reads what the file shows of a block and encodes it.
Status encode_block(Source& source, std::uint32_t block, std::uint32_t group,
                    std::span<std::byte> out) {
  const gpu::BlockShape shape = gpu::block_shape(source.geometry, group);
  std::ranges::fill(out, std::byte{0});
  for (const BlockTensor tensor : block_tensors(shape.encoding)) {
    source.shown.resize(source.geometry.tensor_bytes(tensor, group));
    auto status = read_exactly(source.file, source.offset(tensor, block, group), source.shown);
    if (!status) return status;
    if (!gpu::write_tensor(shape, tensor, source.shown.data(), out.data())) {
      return fail(Code::kInvalid,
                  fmt::format("block {} of group {} cannot be packed", block, group));
    }
  }
  return {};
}

// Reads one block into `out`, as it is to be stored, and checks it.
Status read_block(Source& source, std::uint32_t block, std::uint32_t group,
                  std::span<std::byte> out) {
  const bool raw = source.geometry.encoding == Encoding::kRaw;
  auto status =
      raw ? read_exactly(source.file, source.offset(BlockTensor::kNumbers, block, group), out)
          : encode_block(source, block, group, out);
  if (!status) return status;
  if (block_checksum(out) == source.checksum(block, group)) return {};
  return fail(Code::kInvalid,
              fmt::format("block {} of group {} does not have its checksum", block, group));
}

// Calls each(block, group) for the blocks of [first, first + count) that the file holds.
template <typename Each>
Status for_blocks(const Source& source, std::uint32_t first, std::uint32_t count, Each each) {
  for (std::uint32_t block = first; block < first + count; ++block) {
    for (std::uint32_t group = 0; group < source.header.layout.groups; ++group) {
      if (block < source.header.layout.first_block[group]) continue;
      if (auto status = each(block, group); !status) return status;
    }
  }
  return {};
}

Status check_blocks(Source& source) {
  std::vector<std::byte> scratch;
  return for_blocks(source, 0, source.header.blocks, [&](std::uint32_t block, std::uint32_t group) {
    scratch.resize(static_cast<std::size_t>(source.geometry.stored_bytes(group)));
    return read_block(source, block, group, scratch);
  });
}

// Of a windowed group the file has the window's blocks only.
void leave_out_absent(const Source& source, store::Reservation& reservation, std::uint32_t first,
                      std::uint32_t count) {
  for (std::uint32_t group = 0; group < source.header.layout.groups; ++group) {
    for (std::uint32_t i = 0; i < count; ++i) {
      if (first + i < source.header.layout.first_block[group]) reservation.leave_out(i, group);
    }
  }
}

// Stores blocks [first, first + count) behind `parent`, which becomes their tip.
Status store_chunk(Source& source, store::Namespace& ns, std::uint32_t first, std::uint32_t count,
                   std::chrono::milliseconds room_time, Key& parent) {
  const std::uint32_t block_tokens = source.geometry.block_tokens;
  const auto tokens =
      std::span(source.tokens)
          .subspan(std::size_t{first} * block_tokens, std::size_t{count} * block_tokens);
  std::vector<ExtraAt> extras;
  for (const ExtraAt& extra : source.extras) {
    if (extra.block >= first && extra.block < first + count)
      extras.push_back({extra.block - first, 0, extra.extra});
  }
  const auto reservation = ns.reserve();
  std::vector<Extent> extents(std::size_t{count} * source.header.layout.groups);
  const store::Deadline give_up = store::Clock::now() + room_time;
  if (auto status = store::reserve_waiting(*reservation, parent, tokens, extras, extents, give_up);
      !status) {
    return status;
  }
  leave_out_absent(source, *reservation, first, count);
  auto status =
      for_blocks(source, first, count, [&](std::uint32_t block, std::uint32_t group) -> Status {
        std::byte* slot = reservation->address(block - first, group);
        if (slot == nullptr) return {};  // stored already, perhaps by another writer
        // Once more: another descriptor may have written since.
        return read_block(source, block, group,
                          {slot, static_cast<std::size_t>(source.geometry.stored_bytes(group))});
      });
  if (!status) return status;
  auto committed = reservation->commit(count);
  if (!committed) return pass(std::move(committed));
  parent = committed->tip;
  return {};
}

std::uint32_t chunk_blocks(const Geometry& geometry) {
  std::uint64_t bytes = 0;
  for (std::size_t group = 0; group < geometry.groups.size(); ++group)
    bytes += geometry.slot_bytes(group);
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(kChunkBytes / bytes, 1, 4096));
}

}  // namespace

Result<Key> store_import(int file, std::uint64_t file_bytes, store::Namespace& ns,
                         std::chrono::milliseconds room_time) {
  auto header = read_header(file, file_bytes, ns.geometry());
  if (!header) return pass(std::move(header));
  Source source{file, ns.geometry(), *header, {}, {}, {}};
  if (auto status = read_tables(source); !status) return pass(std::move(status));
  if (auto status = check_keys(source); !status) return pass(std::move(status));
  if (auto status = check_blocks(source); !status) return pass(std::move(status));

  Key parent;
  std::unique_ptr<store::Lease> held;  // what was stored must not be evicted before the rest is
  const std::uint32_t step = chunk_blocks(source.geometry);
  for (std::uint32_t first = 0; first < source.header.blocks; first += step) {
    const std::uint32_t count = std::min(step, source.header.blocks - first);
    if (auto status = store_chunk(source, ns, first, count, room_time, parent); !status)
      return pass(std::move(status));
    auto lease = ns.lease(parent, /*quiet=*/true);
    if (!lease) return pass(std::move(lease));
    held = std::move(*lease);
    held->done_before(held->blocks());  // it may leave DRAM to make room, but not the store
  }
  return source.header.key;
}

}  // namespace kvfs::mount
