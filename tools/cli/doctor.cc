#include "tools/cli/doctor.h"

namespace kvfs::cli {

std::string_view level_name(Level level) {
  switch (level) {
    case Level::kGood:
      return "good";
    case Level::kNote:
      return "note";
    case Level::kWarn:
      return "warning";
    case Level::kBad:
      return "bad";
  }
  return "bad";
}

}  // namespace kvfs::cli
