// What a call of the C++ client API ended with, as the C API says it.
#pragma once

#include <functional>
#include <kvfs/kvfs.hpp>

namespace kvfs::test {

inline kvfs_status status_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const api::Error& error) {
    return error.status();
  }
  return KVFS_OK;
}

}  // namespace kvfs::test
