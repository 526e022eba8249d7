#include "fs/mount/log_setup.h"

#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdio>

#include "fs/mount/fuse_api.h"

namespace kvfs::mount {
namespace {

void log_from_fuse(fuse_log_level level, const char* format, va_list arguments) {
  std::array<char, 512> text;
  std::vsnprintf(text.data(), text.size(), format, arguments);
  std::string_view line(text.data());
  while (line.ends_with('\n')) line.remove_suffix(1);
  spdlog::log(level <= FUSE_LOG_ERR       ? spdlog::level::err
              : level <= FUSE_LOG_WARNING ? spdlog::level::warn
                                          : spdlog::level::debug,
              "{}", line);
}

}  // namespace

Status set_up_log(const Config& config) {
  try {
    spdlog::sink_ptr sink;
    if (config.log_file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(config.log_file);
    }
    auto logger = std::make_shared<spdlog::logger>("kvfsd", std::move(sink));
    logger->set_level(spdlog::level::from_str(config.log_level));
    logger->flush_on(spdlog::level::info);
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    spdlog::set_default_logger(std::move(logger));
  } catch (const spdlog::spdlog_ex& error) {
    return fail(Code::kIo, fmt::format("log_file: {}: {}", config.log_file, error.what()));
  }
  fuse_set_log_func(log_from_fuse);
  return {};
}

}  // namespace kvfs::mount
