#include "base/json_object.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/nearest_name.h"

namespace flex {
namespace {

template <class T>
constexpr bool kIsVector = false;
template <class T>
constexpr bool kIsVector<std::vector<T>> = true;

// Keys that read as identifiers are joined by dots; others are quoted, so that a path has one meaning.
std::string join_path(const std::string& path, std::string_view key) {
  const bool plain = !key.empty() && key.size() <= 80 && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
  if (!plain) return fmt::format("{}[{}]", path, quote_name(key));
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

std::string shown(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  if (value.is_string()) return quote_name(value.get_ref<const std::string&>());
  return value.dump();
}

std::string range_text(const JsonRange& range) {
  if (std::isinf(range.max)) return fmt::format("{} {}", range.above_min ? "above" : "at least", range.min);
  if (std::isinf(range.min)) return fmt::format("at most {}", range.max);
  return fmt::format("{} {} and at most {}", range.above_min ? "above" : "at least", range.min, range.max);
}

}  // namespace

// Reads one value at one place.
class JsonReader {
 public:
  JsonReader(const std::shared_ptr<const nlohmann::json>& document, const std::string& where,
             const JsonRange& range)
      : document_(document), where_(where), range_(range) {}

  template <class T>
  [[nodiscard]] T read(const nlohmann::json& value, const std::string& path) const {
    if constexpr (std::is_same_v<T, bool>) {
      if (!value.is_boolean()) reject(value, path, "true or false");
      return value.get<bool>();
    } else if constexpr (std::is_integral_v<T>) {
      return read_integer<T>(value, path);
    } else if constexpr (std::is_same_v<T, double>) {
      if (!value.is_number() || !std::isfinite(value.get<double>())) reject(value, path, "a number");
      require_in_range(value, path);
      return value.get<double>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!value.is_string()) reject(value, path, "a string");
      return value.get<std::string>();
    } else if constexpr (std::is_same_v<T, JsonObject>) {
      return JsonObject(std::shared_ptr<const nlohmann::json>(document_, &value), where_, path);
    } else {
      static_assert(kIsVector<T>);
      return read_list<T>(value, path);
    }
  }

 private:
  template <class T>
  [[nodiscard]] T read_integer(const nlohmann::json& value, const std::string& path) const {
    if (!value.is_number_integer()) reject(value, path, "an integer");
    require_in_range(value, path);
    const bool fits = value.is_number_unsigned() ? std::in_range<T>(value.get<std::uint64_t>())
                                                 : std::in_range<T>(value.get<std::int64_t>());
    if (!fits) {
      reject(value, path,
             fmt::format("an integer between {} and {}", std::numeric_limits<T>::min(),
                         std::numeric_limits<T>::max()));
    }
    return value.get<T>();
  }

  template <class List>
  [[nodiscard]] List read_list(const nlohmann::json& value, const std::string& path) const {
    if (!value.is_array()) reject(value, path, "an array");
    List list;
    list.reserve(value.size());
    for (std::size_t i = 0; i < value.size(); ++i) {
      list.push_back(read<typename List::value_type>(value[i], fmt::format("{}[{}]", path, i)));
    }
    return list;
  }

  void require_in_range(const nlohmann::json& value, const std::string& path) const {
    const auto number = value.get<double>();
    const bool inside =
        (range_.above_min ? number > range_.min : number >= range_.min) && number <= range_.max;
    if (!inside) reject(value, path, range_text(range_));
  }

  [[noreturn]] void reject(const nlohmann::json& value, const std::string& path,
                           std::string_view right) const {
    fail("{}: {}: is {}; it must be {}", where_, path, shown(value), right);
  }

  const std::shared_ptr<const nlohmann::json>& document_;
  const std::string& where_;
  const JsonRange& range_;
};

JsonObject::JsonObject(nlohmann::json value, std::string where)
    : JsonObject(std::make_shared<const nlohmann::json>(std::move(value)), std::move(where), "") {}

JsonObject::JsonObject(std::shared_ptr<const nlohmann::json> value, std::string where, std::string path)
    : value_(std::move(value)), where_(std::move(where)), path_(std::move(path)) {
  if (!value_->is_object()) reject("", "is {}; it must be an object", shown(*value_));
}

JsonObject JsonObject::from_file(const std::filesystem::path& path) {
  return {read_json_file(path), path.string()};
}

bool JsonObject::contains(std::string_view key) const { return value_->find(key) != value_->end(); }

std::vector<std::string> JsonObject::keys() const {
  std::vector<std::string> keys;
  for (const auto& item : value_->items()) keys.push_back(item.key());
  return keys;
}

std::string JsonObject::path(std::string_view key) const {
  return key.empty() ? path_ : join_path(path_, key);
}

std::string JsonObject::place(std::string_view key) const {
  const std::string inside = path(key);
  return inside.empty() ? where_ : where_ + ": " + inside;
}

void JsonObject::note_asked(std::string_view key) {
  if (std::find(asked_.begin(), asked_.end(), key) == asked_.end()) asked_.emplace_back(key);
}

const nlohmann::json* JsonObject::find(std::string_view key) {
  note_asked(key);
  const auto found = value_->find(key);
  return found == value_->end() ? nullptr : &*found;
}

const nlohmann::json& JsonObject::find_required(std::string_view key) {
  if (const nlohmann::json* found = find(key)) return *found;
  const auto present = keys();
  const auto nearest = nearest_name(key, present);
  reject(key, "is missing{}", nearest ? fmt::format("; there is {}", quote_name(*nearest)) : "");
}

const nlohmann::json& JsonObject::raw(std::string_view key) { return find_required(key); }

template <class T>
T JsonObject::required(std::string_view key, const JsonRange& range) {
  return JsonReader(value_, where_, range).read<T>(find_required(key), join_path(path_, key));
}

template <class T>
std::optional<T> JsonObject::optional(std::string_view key, const JsonRange& range) {
  const nlohmann::json* found = find(key);
  if (found == nullptr) return std::nullopt;
  return JsonReader(value_, where_, range).read<T>(*found, join_path(path_, key));
}

std::string JsonObject::one_of(std::string_view key, std::initializer_list<std::string_view> choices) {
  const auto value = required<std::string>(key);
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return value;
  const std::vector<std::string> names(choices.begin(), choices.end());
  const auto nearest = nearest_name(value, names);
  reject(key, "is {}; it must be one of {}{}", quote_name(value), fmt::join(names, ", "),
         nearest ? fmt::format(" (did you mean {}?)", *nearest) : "");
}

std::string JsonObject::required_text(std::string_view key) {
  auto text = required<std::string>(key);
  if (text.find_first_not_of(" \t\n") == std::string::npos) reject(key, "is empty");
  return text;
}

std::optional<std::string> JsonObject::optional_one_of(std::string_view key,
                                                       std::initializer_list<std::string_view> choices) {
  if (find(key) == nullptr) return std::nullopt;
  return one_of(key, choices);
}

void JsonObject::finish() const {
  for (const auto& item : value_->items()) {
    if (std::find(asked_.begin(), asked_.end(), item.key()) != asked_.end()) continue;
    if (const auto nearest = nearest_name(item.key(), asked_)) {
      reject(item.key(), "unknown key; did you mean {}?", quote_name(*nearest));
    }
    reject(item.key(), "unknown key; known here: {}",
           asked_.empty() ? "none" : fmt::format("{}", fmt::join(asked_, ", ")));
  }
}

#define FLEX_INSTANTIATE(...)                                                                 \
  template __VA_ARGS__ JsonObject::required<__VA_ARGS__>(std::string_view, const JsonRange&); \
  template std::optional<__VA_ARGS__> JsonObject::optional<__VA_ARGS__>(std::string_view, const JsonRange&)

FLEX_INSTANTIATE(bool);
FLEX_INSTANTIATE(int);
FLEX_INSTANTIATE(std::int64_t);
FLEX_INSTANTIATE(std::uint64_t);
FLEX_INSTANTIATE(double);
FLEX_INSTANTIATE(std::string);
FLEX_INSTANTIATE(JsonObject);
FLEX_INSTANTIATE(std::vector<int>);
FLEX_INSTANTIATE(std::vector<std::int64_t>);
FLEX_INSTANTIATE(std::vector<std::uint64_t>);
FLEX_INSTANTIATE(std::vector<double>);
FLEX_INSTANTIATE(std::vector<std::string>);
FLEX_INSTANTIATE(std::vector<JsonObject>);
FLEX_INSTANTIATE(std::vector<std::vector<double>>);
FLEX_INSTANTIATE(std::vector<std::vector<std::int64_t>>);

}  // namespace flex
