#include "tools/cli/bench_file.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "tools/cli/json_file.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

// Rows of a GPU are told apart by `on_gpu`: they win over those of the same thing without one.
struct Reader {
  BenchFigures figures;
  bool gpu_link = false, gpu_latency = false, gpu_nvme = false, gpu_packed = false;

  static void take(std::optional<BenchFigure>& figure, bool& have_gpu, bool on_gpu,
                   BenchFigure found) {
    if (have_gpu && !on_gpu) return;
    figure = std::move(found);
    have_gpu = on_gpu;
  }

  // The fastest of a GPU's rows, which are of several sizes.
  static void take_fastest(std::optional<BenchFigure>& figure, bool& have_gpu, BenchFigure found) {
    if (have_gpu && figure->value >= found.value) return;
    take(figure, have_gpu, true, std::move(found));
  }

  void add(const json& row) {
    static const std::regex gpu_load("gpu_load(_[0-9]+(mib|gib))?");
    static const std::regex gpu_load_packed("gpu_load_packed(_[0-9]+(mib|gib))?");
    static const std::regex ttft("ttft_([0-9]+)k");
    const auto name = row.at("bench").get<std::string>();
    const auto value = row.at("value").get<double>();
    std::smatch parts;
    if (std::regex_match(name, gpu_load)) {
      take_fastest(figures.link, gpu_link, {value * 1e9, name});
    } else if (std::regex_match(name, gpu_load_packed)) {
      take_fastest(figures.packed, gpu_packed, {value * 1e9, name});
    } else if (name == "cpu_packed") {
      take(figures.packed, gpu_packed, false, {value * 1e9, name});
    } else if (name == "cpu_load") {
      take(figures.link, gpu_link, false, {value * 1e9, name});
    } else if (name == "gpu_load_1block" || name == "lease_load_1block") {
      take(figures.latency, gpu_latency, name == "gpu_load_1block", {value * 1e-6, name});
    } else if (name == "gpu_nvme" || name == "nvme_promote") {
      take(figures.nvme, gpu_nvme, name == "gpu_nvme", {value * 1e9, name});
    } else if (std::regex_match(name, parts, ttft)) {
      // N tokens are cached, N + 1 computed.
      figures.prefill.push_back({.tokens = std::stod(parts[1]) * 1024 + 1,
                                 .seconds = row.at("cold").get<double>() * 1e-3});
    }
  }
};

}  // namespace

Result<BenchFigures> read_bench(const std::string& path) {
  Result<std::string> text = read_text(path);
  if (!text) return pass(std::move(text));
  Reader reader;
  std::istringstream lines(*text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty()) continue;
    try {
      reader.add(json::parse(line));
    } catch (const json::exception&) {
      return fail(Code::kInvalid,
                  fmt::format("{}, line {}: not a row of tools/bench (a JSON object with \"bench\" "
                              "and \"value\"): give what it printed",
                              path, number));
    }
  }
  const BenchFigures& found = reader.figures;
  if (!found.link && !found.latency && !found.nvme && !found.packed && found.prefill.empty()) {
    return fail(Code::kInvalid,
                fmt::format("{} has none of the rows gpu_load, gpu_load_1block, gpu_nvme, "
                            "gpu_load_packed, ttft_8k, cpu_load, lease_load_1block, nvme_promote, "
                            "cpu_packed: run tools/bench for them",
                            path));
  }
  return std::move(reader.figures);
}

Result<bool> packing_pays(const BenchFigures& figures, const std::string& path) {
  const auto on_gpu = [](const BenchFigure& figure) { return figure.row.starts_with("gpu"); };
  if (!figures.packed || !figures.link || on_gpu(*figures.packed) != on_gpu(*figures.link)) {
    return fail(Code::kInvalid,
                fmt::format("{} does not say whether packing pays, by rows gpu_load_packed and "
                            "gpu_load, or cpu_packed and cpu_load: run tools/bench for both, or "
                            "choose with --encoding",
                            path));
  }
  return figures.packed->value > figures.link->value;
}

}  // namespace kvfs::cli
