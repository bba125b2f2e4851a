#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/require.h"

namespace flex {

/// What a number may be; both bounds included unless `above_min`.
struct JsonRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;  ///< min itself is refused

  [[nodiscard]] static JsonRange at_least(double min) { return {.min = min}; }
  [[nodiscard]] static JsonRange above(double min) { return {.min = min, .above_min = true}; }
  [[nodiscard]] static JsonRange between(double min, double max) { return {.min = min, .max = max}; }
};

/// Reads one JSON object from outside with checks. Every getter remembers its key, and finish() refuses the
/// keys that none asked for.
///
///     JsonObject gpu = JsonObject::from_file("gpu.json");
///     const auto bandwidth_GBps = gpu.required<double>("bandwidth_GBps", JsonRange::above(0));
///     const auto name = gpu.optional<std::string>("name").value_or("unnamed");
///     gpu.finish();
///
/// T is bool, int, std::int64_t, std::uint64_t, double, std::string, JsonObject, a std::vector of one of
/// these (but bool), or a std::vector of std::vector<double> or std::vector<std::int64_t>. An integer is
/// written without a point or an exponent. A range holds for each number of a list. null is no value: an
/// absent key is left out.
///
/// Errors are InputError with file, key path, what was wrong and what would be right:
/// `gpu.json: links[1].latency_us: is -3; it must be at least 0`.
/// Copies share the JSON value, which lives as long as the last of them or their children; each keeps its own
/// account of the keys asked for.
class JsonObject {
 public:
  /// @param where begins every message: a file's name, as a rule.
  /// @throws InputError if `value` is not an object.
  JsonObject(nlohmann::json value, std::string where);

  /// @throws InputError, FileError as read_json_file.
  [[nodiscard]] static JsonObject from_file(const std::filesystem::path& path);

  [[nodiscard]] bool contains(std::string_view key) const;

  /// Keys in alphabetical order: for objects whose keys are names of the user's choosing.
  [[nodiscard]] std::vector<std::string> keys() const;

  template <class T>
  [[nodiscard]] T required(std::string_view key, const JsonRange& range = {});

  /// Nothing if the key is absent; a value that is there must be right.
  template <class T>
  [[nodiscard]] std::optional<T> optional(std::string_view key, const JsonRange& range = {});

  /// A string of more than blanks.
  [[nodiscard]] std::string required_text(std::string_view key);

  /// A string out of `choices`; the error names them and the nearest one.
  [[nodiscard]] std::string one_of(std::string_view key, std::initializer_list<std::string_view> choices);
  [[nodiscard]] std::optional<std::string> optional_one_of(std::string_view key,
                                                           std::initializer_list<std::string_view> choices);

  /// The value as it is, for what the getters do not cover.
  [[nodiscard]] const nlohmann::json& raw(std::string_view key);

  /// "key.path[3].key": place() without the file.
  [[nodiscard]] std::string path(std::string_view key = {}) const;

  /// "FILE: key.path[3].key", or "FILE" for the outermost object and an empty key.
  [[nodiscard]] std::string place(std::string_view key = {}) const;

  /// Throws InputError "PLACE: message": for checks that only the caller can make.
  template <class... Args>
  [[noreturn]] void reject(std::string_view key, fmt::format_string<Args...> format, Args&&... args) const {
    throw InputError(place(key) + ": " + fmt::format(format, std::forward<Args>(args)...));
  }

  /// Refuses keys that no getter asked for, with the nearest one that was. To be called after the last
  /// getter.
  void finish() const;

 private:
  friend class JsonReader;  // makes the children

  JsonObject(std::shared_ptr<const nlohmann::json> value, std::string where, std::string path);
  void note_asked(std::string_view key);
  const nlohmann::json* find(std::string_view key);
  const nlohmann::json& find_required(std::string_view key);

  std::shared_ptr<const nlohmann::json> value_;  ///< shares ownership of the whole document
  std::string where_;
  std::string path_;                ///< of this object in the document
  std::vector<std::string> asked_;  ///< in order, each once
};

}  // namespace flex
