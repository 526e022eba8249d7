#include "prompt.h"

namespace nb = nanobind;

namespace kvfs::python {

Prompt::Prompt(nb::handle tokens, const std::optional<Extras>& extras) : tokens_(tokens, "token") {
  tokens_.require_not_negative();
  if (extras) {
    for (const auto& [block, bytes] : *extras) {
      extra_bytes_.push_back(bytes);
      extras_.push_back({block, static_cast<std::uint32_t>(bytes.size()), bytes.data()});
    }
  }
  prompt_ = {tokens_.values().data(), tokens_.values().size(), extras_.data(), extras_.size()};
}

}  // namespace kvfs::python
