#include "lib/client/engine_side.h"

#include <string>
#include <utility>

namespace kvfs::client {
namespace {

std::byte* bytes_at(void* pointer) { return static_cast<std::byte*>(pointer); }

Status check_size(const char* name, std::uint32_t size, std::size_t expected) {
  if (size >= expected) return {};
  return fail(Code::kInvalid, std::string(name) + ".size is " + std::to_string(size) +
                                  ", expected " + std::to_string(expected) +
                                  ": set it to sizeof(kvfs_" + name + ")");
}

// An opaque block is moved through pages only where that keeps the order of its bytes within each
// layer, head and plane: page and block are the same tokens, one after the other.
Status check_opaque(const kvfs_pages& pages, const Geometry& geometry, std::uint32_t group) {
  const auto row = std::int64_t{geometry.groups[group].head_dim} * dtype_bytes(geometry.dtype);
  if (pages.page_table != nullptr && pages.page_tokens == geometry.block_tokens &&
      (geometry.block_tokens == 1 || pages.token_stride == row)) {
    return {};
  }
  return fail(Code::kInvalid, "the namespace's layout is '" + geometry.layout +
                                  "': its blocks move whole; give pages of the block's " +
                                  std::to_string(geometry.block_tokens) +
                                  " tokens with a token_stride of " + std::to_string(row) +
                                  ", or use kvfs_load_blocks and kvfs_store_blocks");
}

}  // namespace

Result<EngineSide> EngineSide::from_pages(const kvfs_pages& pages, const Geometry& geometry,
                                          const BlockRange& range, Devices& devices, void* stream) {
  if (Status status = check_size("pages", pages.size, sizeof(kvfs_pages)); !status) {
    return pass(std::move(status));
  }
  if (geometry.opaque()) {
    if (Status status = check_opaque(pages, geometry, range.group); !status)
      return pass(std::move(status));
  }
  if (pages.layers == nullptr) {
    return fail(Code::kInvalid, "layers is NULL: give the addresses of the layers' KV caches");
  }
  const auto copy = std::make_shared<gpu::Pages>();
  copy->layers.reserve(pages.layer_count);
  for (std::uint32_t i = 0; i < pages.layer_count; ++i) {
    copy->layers.push_back(bytes_at(pages.layers[i]));
  }
  copy->kv_stride = pages.kv_stride;
  copy->page_stride = pages.page_stride;
  copy->token_stride = pages.token_stride;
  copy->head_stride = pages.head_stride;
  copy->first_head = pages.first_head;
  copy->head_count = pages.head_count;
  copy->first_token = pages.first_token;
  if (pages.page_table != nullptr) {
    copy->page_tokens = pages.page_tokens;
    copy->page_table.assign(pages.page_table, pages.page_table + pages.page_count);
    if (pages.page_tokens == 0 || pages.page_count == 0) {
      return fail(Code::kInvalid,
                  "page_table is given, page_tokens or page_count is 0: give both, "
                  "or no table for strided memory");
    }
  }
  EngineSide side(geometry, range);
  if (Status status = gpu::check_pages(side.shape_, *copy, range.first, range.count); !status) {
    return pass(std::move(status));
  }
  if (Status status = side.choose_device(devices, copy->layers.front(), stream); !status) {
    return pass(std::move(status));
  }
  side.pages_ = copy;
  return side;
}

Result<EngineSide> EngineSide::from_blocks(const kvfs_blocks& blocks, const Geometry& geometry,
                                           const BlockRange& range, Devices& devices,
                                           void* stream) {
  if (Status status = check_size("blocks", blocks.size, sizeof(kvfs_blocks)); !status) {
    return pass(std::move(status));
  }
  if (blocks.blocks == nullptr) return fail(Code::kInvalid, "blocks.blocks is NULL");
  EngineSide side(geometry, range);
  side.blocks_.reserve(blocks.count);
  for (std::uint32_t i = 0; i < blocks.count; ++i) {
    if (blocks.blocks[i] == nullptr) {
      return fail(Code::kInvalid, "blocks.blocks[" + std::to_string(i) + "] is NULL");
    }
    side.blocks_.push_back(bytes_at(blocks.blocks[i]));
  }
  const void* first = side.blocks_.empty() ? nullptr : side.blocks_.front();
  if (Status status = side.choose_device(devices, first, stream); !status) {
    return pass(std::move(status));
  }
  return side;
}

Status EngineSide::choose_device(Devices& devices, const void* pointer, void* stream) {
  Result<gpu::Device*> device = devices.of(pointer);
  if (!device) return pass(std::move(device));
  Result<gpu::After> after = (*device)->after(stream);
  if (!after) return pass(std::move(after));
  device_ = *device;
  after_ = std::move(*after);
  return {};
}

std::span<std::byte* const> EngineSide::addresses(std::span<const gpu::BlockAt> blocks) const {
  thread_local std::vector<std::byte*> scratch;
  scratch.clear();
  for (const gpu::BlockAt& block : blocks) scratch.push_back(blocks_[block.block - range_.first]);
  return scratch;
}

bool EngineSide::layers_movable() const {
  return pages_ && !opaque_ && shape_.encoding == Encoding::kRaw;
}

std::uint32_t EngineSide::layers_wanted() const {
  return pages_ && pages_->layer_count != 0 ? pages_->layer_count : shape_.layers;
}

EngineSide EngineSide::with_layers(std::uint32_t first, std::uint32_t count) const {
  EngineSide side = *this;
  const auto pages = std::make_shared<gpu::Pages>(*pages_);
  pages->first_layer = first;
  pages->layer_count = count;
  side.pages_ = pages;
  return side;
}

void EngineSide::load(std::span<const gpu::BlockAt> blocks, gpu::CopyDone done) const {
  if (pages_) {
    device_->scatter(shape_, blocks, pages_, after_, std::move(done));
  } else {
    device_->copy_out(blocks, addresses(blocks), shape_.bytes(), after_, std::move(done));
  }
}

void EngineSide::store(std::span<const gpu::BlockAt> blocks, gpu::CopyDone done) const {
  if (pages_) {
    device_->gather(shape_, blocks, pages_, after_, std::move(done));
  } else {
    device_->copy_in(blocks, addresses(blocks), shape_.bytes(), after_, std::move(done));
  }
}

ByteRange EngineSide::touched() const {
  if (!pages_) return {0, shape_.bytes()};
  const std::uint64_t head = shape_.bytes() / shape_.heads;
  const std::uint32_t heads =
      pages_->head_count == 0 ? shape_.heads - pages_->first_head : pages_->head_count;
  return {pages_->first_head * head, heads * head};
}

}  // namespace kvfs::client
