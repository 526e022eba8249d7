// Reading requests and writing answers of the control files.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "fs/store/store.h"
#include "lib/format/result.h"

namespace kvfs::mount {

using Answer = Result<nlohmann::json>;  // an object; "ok" is added by as_answer

nlohmann::json failure(const Error& error);
nlohmann::json not_an_object();  // the request
nlohmann::json as_answer(Answer&& answer);

// Whether the request is for `op`. Like all that looks at a request it copies no value of it: a
// copy recurses, and whoever wrote the request chose how deep.
bool is_op(const nlohmann::json& request, const char* op);
// A field of the request: kInvalid, naming it, when it is missing or of another type.
Result<std::string> text_field(const nlohmann::json& request, const char* name);
Result<std::uint64_t> number_field(const nlohmann::json& request, const char* name);
Result<std::uint64_t> number_field(const nlohmann::json& request, const char* name,
                                   std::uint64_t absent);
Result<bool> bool_field(const nlohmann::json& request, const char* name, bool absent);
// "timeout_s": a deadline that far away, or `absent` from now.
Result<store::Deadline> deadline_field(const nlohmann::json& request,
                                       std::chrono::milliseconds absent);
// Fields that the operation does not have: kInvalid names the first.
Status only_fields(const nlohmann::json& request, std::initializer_list<const char*> known);

// "key", or a "name" of the namespace.
Result<Key> key_field(const nlohmann::json& request, const store::Namespace& ns);

nlohmann::json prefix_json(const store::Namespace& ns, const store::PrefixInfo& info);
nlohmann::json evicted_json(const store::Evicted& evicted);

}  // namespace kvfs::mount
