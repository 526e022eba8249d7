#pragma once

#include <string_view>

namespace kvfs::mount {

// Tells the service manager, where there is one ($NOTIFY_SOCKET): "READY=1", "STOPPING=1".
void sd_notify(std::string_view state);

}  // namespace kvfs::mount
