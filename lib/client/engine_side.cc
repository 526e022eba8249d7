#include "lib/client/engine_side.h"

#include <mutex>
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
      pages.first_token % geometry.block_tokens == 0 &&
      (geometry.block_tokens == 1 || pages.token_stride == row)) {
    return {};
  }
  return fail(Code::kInvalid, "the namespace's layout is '" + geometry.layout +
                                  "': its blocks move whole; give pages of the block's " +
                                  std::to_string(geometry.block_tokens) +
                                  " tokens with a token_stride of " + std::to_string(row) +
                                  " and a first_token at a block's beginning, or use "
                                  "kvfs_load_blocks and kvfs_store_blocks");
}

// A whole block in the engine's memory, canonical, as pages: strided, with its own tokens only.
std::shared_ptr<const gpu::Pages> block_as_pages(const gpu::BlockShape& shape, std::byte* memory,
                                                 std::uint32_t block) {
  const auto pages = std::make_shared<gpu::Pages>();
  pages->token_stride = std::int64_t{shape.head_dim} * shape.element_bytes;
  pages->kv_stride = pages->token_stride * shape.tokens;
  pages->head_stride = static_cast<std::int64_t>(shape.head_bytes());
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    pages->layers.push_back(memory + std::uint64_t{layer} * shape.kv_factor *
                                         static_cast<std::uint64_t>(pages->kv_stride));
  }
  pages->first_token = std::uint64_t{block} * shape.tokens;
  return pages;
}

// Calls `done` once, with the first error, when so many parts are done.
gpu::CopyDone when_all(std::size_t parts, gpu::CopyDone done) {
  struct Joined {
    std::mutex mutex;
    std::size_t left;
    Status status;
    gpu::CopyDone done;
  };
  const auto joined = std::make_shared<Joined>();
  joined->left = parts;
  joined->done = std::move(done);
  return [joined](Status copied) {
    {
      const std::lock_guard lock(joined->mutex);
      if (!copied && joined->status) joined->status = std::move(copied);
      if (--joined->left != 0) return;
    }
    joined->done(std::move(joined->status));
  };
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

bool EngineSide::layers_movable() const { return pages_ && !opaque_; }

std::uint32_t EngineSide::layers_wanted() const {
  return pages_ && pages_->layer_count != 0 ? pages_->layer_count : shape_.layers;
}

EngineSide EngineSide::shown() const {
  EngineSide side = *this;
  if (!quantized(shape_.encoding)) side.shape_.encoding = Encoding::kRaw;
  return side;
}

EngineSide EngineSide::with_blocks(std::uint32_t first, std::uint32_t count) const {
  EngineSide side = *this;
  side.range_.first += first;
  side.range_.count = count;
  return side;
}

EngineSide EngineSide::with_layers(std::uint32_t first, std::uint32_t count, bool more) const {
  EngineSide side = *this;
  const auto pages = std::make_shared<gpu::Pages>(*pages_);
  pages->first_layer = first;
  pages->layer_count = count;
  pages->more_follows = more;
  side.pages_ = pages;
  return side;
}

void EngineSide::load(std::span<const gpu::BlockAt> blocks, gpu::CopyDone done) const {
  if (pages_) {
    device_->scatter(shape_, blocks, pages_, after_, std::move(done));
  } else if (shape_.encoding != Encoding::kRaw) {
    convert(&gpu::Device::scatter, blocks, done);
  } else {
    device_->copy_out(blocks, addresses(blocks), shape_.bytes(), after_, std::move(done));
  }
}

void EngineSide::load_local(std::span<const gpu::BlockAt> blocks, gpu::CopyDone done) const {
  if (pages_) {
    device_->scatter_local(shape_, blocks, pages_, after_, std::move(done));
  } else if (shape_.encoding != Encoding::kRaw) {
    convert(&gpu::Device::scatter_local, blocks, done);
  } else {
    device_->copy_out_local(blocks, addresses(blocks), shape_.bytes(), after_, std::move(done));
  }
}

void EngineSide::store(std::span<const gpu::BlockAt> blocks, gpu::CopyDone done) const {
  if (pages_) {
    device_->gather(shape_, blocks, pages_, after_, std::move(done));
  } else if (shape_.encoding != Encoding::kRaw) {
    convert(&gpu::Device::gather, blocks, done);
  } else {
    device_->copy_in(blocks, addresses(blocks), shape_.bytes(), after_, std::move(done));
  }
}

// A call for each block: they may lie anywhere, and nobody's fast path is here.
void EngineSide::convert(Convert way, std::span<const gpu::BlockAt> blocks,
                         const gpu::CopyDone& done) const {
  if (blocks.empty()) return done({});
  const gpu::CopyDone each = when_all(blocks.size(), done);
  for (const gpu::BlockAt& block : blocks) {
    std::byte* const memory = blocks_[block.block - range_.first];
    (device_->*way)(shape_, {&block, 1}, block_as_pages(shape_, memory, block.block), after_, each);
  }
}

ByteRange EngineSide::touched() const {
  if (!pages_) return {0, shape_.stored_bytes()};
  const std::uint64_t head = shape_.stored_head_bytes();
  const std::uint32_t heads =
      pages_->head_count == 0 ? shape_.heads - pages_->first_head : pages_->head_count;
  return {pages_->first_head * head, heads * head};
}

}  // namespace kvfs::client
