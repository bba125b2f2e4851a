#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/safetensors_parse.h"

namespace flex {

/// A safetensors file, validated as a whole and mapped into memory: tensors cost no memory until they are
/// read, and ranks of one machine share the pages.
///
/// Tensors point into the mapping and are valid while this object or one it was moved to lives. The file must
/// not be shortened in place meanwhile; replacing it by a rename, as AtomicFile does, is harmless.
class SafetensorsFile {
 public:
  /// @throws InputError (see parse_safetensors), FileError.
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// By name, in alphabetical order.
  [[nodiscard]] std::span<const SafetensorsTensor> tensors() const { return content_.tensors; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return content_.metadata; }

  /// Null if there is no such tensor.
  [[nodiscard]] const SafetensorsTensor* find(std::string_view name) const;

  /// @throws InputError if there is no such tensor, with the nearest name.
  [[nodiscard]] const SafetensorsTensor& at(std::string_view name) const;

 private:
  std::filesystem::path path_;
  std::shared_ptr<const std::byte> mapping_;
  SafetensorsContent content_;
};

}  // namespace flex
