#include "fs/mount/control_call.h"

#include <nlohmann/json.hpp>

#include "fs/mount/control_json.h"
#include "fs/mount/file_system.h"

namespace kvfs::mount {

store::Done respond_when_done(FileSystem& fs, ControlRespond respond) {
  return [&fs, respond = std::move(respond)](const Status& status) {
    fs.completions().post([respond, status] {
      respond(status ? as_answer(nlohmann::json::object()) : failure(status.error()), nullptr);
    });
  };
}

}  // namespace kvfs::mount
