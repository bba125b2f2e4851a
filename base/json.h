#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

/// Strict JSON. Who touches values of nlohmann::json itself includes <nlohmann/json.hpp>; base/json_object.h
/// reads objects with checks.
namespace flex {

/// Deepest nesting of objects and arrays that is read.
inline constexpr int kMaxJsonDepth = 128;

/// Parses one JSON document (RFC 8259). Refused: duplicate keys, NaN and Infinity, numbers beyond double,
/// text that is not UTF-8, nesting beyond kMaxJsonDepth, anything after the document.
/// @throws InputError "WHERE:LINE:COLUMN: reason"; the place is the last byte read, columns count bytes
/// from 1.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, std::string_view where);

/// Parses a file of at most 256 MiB.
/// @throws InputError as parse_json, FileError.
[[nodiscard]] nlohmann::json read_json_file(const std::filesystem::path& path);

/// Writes `value` and a newline through an AtomicFile; numbers read back equal.
/// @throws InputError if a number is not finite or a string is not UTF-8; FileError.
void write_json_file(const std::filesystem::path& path, const nlohmann::json& value);

[[nodiscard]] bool is_utf8(std::string_view text);

/// `text` as a JSON string on one line, cut after about 80 bytes: for names from outside in error messages.
[[nodiscard]] std::string quote_name(std::string_view text);

}  // namespace flex
