#include "tools/benchmarks/nvme_place.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/cli/control_client.h"

namespace kvfs::bench {

Result<std::string> nvme_place(const std::string& mount) {
  Result<cli::ControlClient> control = cli::ControlClient::open_store(mount);
  if (!control) return pass(std::move(control));
  Result<nlohmann::json> answer = control->call({{"op", "config"}});
  if (!answer) return pass(std::move(answer));
  const nlohmann::json config = answer->value("config", nlohmann::json::object());
  const auto nvme = config.find("nvme");
  if (nvme == config.end() || !nvme->is_array() || nvme->empty()) {
    return fail(Code::kNotFound, "the mount has no NVMe tier");
  }
  const auto text = nvme->front().get<std::string>();  // DIR:SIZE
  return std::filesystem::path(text.substr(0, text.rfind(':'))).parent_path().string();
}

}  // namespace kvfs::bench
