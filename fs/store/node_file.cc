#include "fs/store/node_file.h"

#include <cstring>
#include <utility>

namespace kvfs::store {
namespace {

constexpr std::uint64_t kNodeMagic = 0x3145444f4e56464bULL;  // "KFVNODE1"
constexpr std::uint32_t kNodeVersion = 1;
constexpr std::size_t kHeaderBytes = 4096;

struct NodeHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t groups;
  Key seed;
  std::uint32_t capacity;
  std::uint32_t complete;
};

std::size_t stride_of(const Geometry& geometry) {
  return sizeof(Node) + geometry.groups.size() * sizeof(Placement);
}

NodeHeader& header_of(const MappedFile& file) {
  return *reinterpret_cast<NodeHeader*>(file.data());
}

Status check(const MappedFile& file, const Geometry& geometry, const std::string& path) {
  if (file.bytes() < kHeaderBytes || header_of(file).magic != kNodeMagic) {
    return fail(Code::kCorrupt, path + " is not a file of block states: remove it");
  }
  const NodeHeader& header = header_of(file);
  if (header.version != kNodeVersion) {
    return fail(Code::kMismatch, path + " has version " + std::to_string(header.version) +
                                     ", this kvfsd reads version " + std::to_string(kNodeVersion) +
                                     ": remove it, the blocks on NVMe remain");
  }
  if (header.seed != geometry.seed() || header.groups != geometry.groups.size()) {
    return fail(Code::kMismatch, path + " belongs to another geometry: remove it");
  }
  if (header.complete == 0 ||
      file.bytes() != kHeaderBytes + header.capacity * stride_of(geometry)) {
    return fail(Code::kCorrupt, path + " is incomplete: remove it");
  }
  return {};
}

}  // namespace

Result<NodeFile> NodeFile::create(const std::string& path, const Geometry& geometry,
                                  std::uint32_t capacity) {
  NodeFile nodes;
  nodes.capacity_ = capacity;
  nodes.stride_ = stride_of(geometry);
  Result<MappedFile> file = MappedFile::create(path, kHeaderBytes + capacity * nodes.stride_);
  if (!file) return pass(std::move(file));
  nodes.file_ = std::move(*file);
  if (Status status = nodes.file_.provide(kHeaderBytes); !status) return pass(std::move(status));
  header_of(nodes.file_) = {.magic = kNodeMagic,
                            .version = kNodeVersion,
                            .groups = static_cast<std::uint32_t>(geometry.groups.size()),
                            .seed = geometry.seed(),
                            .capacity = capacity,
                            .complete = 0};
  return nodes;
}

Result<NodeFile> NodeFile::open(const std::string& path, const Geometry& geometry) {
  Result<MappedFile> file = MappedFile::open(path);
  if (!file) return pass(std::move(file));
  if (Status status = check(*file, geometry, path); !status) return pass(std::move(status));
  NodeFile nodes;
  nodes.capacity_ = header_of(*file).capacity;
  nodes.stride_ = stride_of(geometry);
  nodes.file_ = std::move(*file);
  return nodes;
}

std::byte* NodeFile::at(BlockId id) const {
  return file_.data() + kHeaderBytes + std::size_t{id} * stride_;
}

Status NodeFile::provide(BlockId id) {
  return file_.provide(kHeaderBytes + (std::uint64_t{id} + 1) * stride_);
}

Status NodeFile::copy_from(const NodeFile& old, BlockId count) {
  if (count == 0) return {};
  if (Status status = provide(count - 1); !status) return status;
  std::memcpy(at(0), old.at(0), count * stride_);
  return {};
}

void NodeFile::set_complete(bool complete) {
  crash_order();
  header_of(file_).complete = complete ? 1 : 0;
  crash_order();
}

}  // namespace kvfs::store
