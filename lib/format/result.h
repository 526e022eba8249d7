// Result<T>: a value, or an Error that says in one sentence what is wrong and what to do about it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace kvfs {

enum class Code : std::uint8_t {
  kInvalid,      // an argument or a file's content is wrong
  kNotFound,     // no such namespace, prefix, name or slab
  kExists,       // it is there already, with other content
  kMismatch,     // geometry or format version differs from what is stored
  kPermission,   // the caller may not
  kNoSpace,      // a tier is full and nothing in it may leave
  kBusy,         // leased, pinned, or owned by another daemon
  kCorrupt,      // bytes that fail their checksum or their format
  kIo,           // the operating system said no
  kTimeout,      // the deadline passed
  kUnavailable,  // the daemon is gone, or this machine cannot do it
};

// Lower-case name of a code, for logs and JSON ("not_found", ...).
std::string_view code_name(Code code);

struct [[nodiscard]] Error {
  Code code;
  std::string message;  // names the thing and the remedy; no trailing full stop or newline
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

inline tl::unexpected<Error> fail(Code code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

// Io error for a failed system call: "<what>: <strerror(errno_value)>".
tl::unexpected<Error> fail_errno(int errno_value, std::string_view what);

// Passes an Error of one Result on as that of another.
template <typename T>
tl::unexpected<Error> pass(Result<T>&& result) {
  return tl::unexpected<Error>(std::move(result).error());
}

// Drops an error on purpose; the reason stays in the source and can be searched for.
template <typename T>
void ignore_error(Result<T>&&, std::string_view /*reason*/) {}

}  // namespace kvfs
