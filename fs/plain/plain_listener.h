// What the plain store tells of, for those who need to know nothing else of it.
#pragma once

#include <memory>

namespace kvfs::plain {

struct Node;  // tree.h
using NodePtr = std::shared_ptr<Node>;

class PlainListener {
 public:
  virtual ~PlainListener() = default;
  // The daemon removed what had that name. From any thread, with no lock held.
  virtual void on_gone(const NodePtr& node) = 0;
};

}  // namespace kvfs::plain
