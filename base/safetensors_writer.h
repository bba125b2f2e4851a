#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/safetensors_dtype.h"
#include "base/safetensors_parse.h"

namespace flex {

/// Collects tensors and writes them as one safetensors file. Data is borrowed: it must live, unchanged, until
/// write().
///
/// Tensors lie by descending element size, then by name, and the header is padded to 8 bytes, so that every
/// tensor is aligned to its elements. Equal content gives equal bytes, whatever the order of the calls.
class SafetensorsWriter {
 public:
  /// @throws InputError if the name is taken, reserved or not UTF-8, or `bytes` is not what the shape needs.
  void add(std::string_view name, SafetensorsDType dtype, std::span<const std::int64_t> shape,
           std::span<const std::byte> bytes);

  /// Elements of a C++ type that has an element type (safetensors_dtype_of).
  template <class T>
  void add(std::string_view name, std::span<const std::int64_t> shape, std::span<const T> elements) {
    add(name, safetensors_dtype_of<T>(), shape, std::as_bytes(elements));
  }

  /// Replaces an earlier value of the key.
  /// @throws InputError if one of them is not UTF-8.
  void set_metadata(std::string_view key, std::string_view value);

  /// Writes atomically: the file at `path` is the old one or the whole new one.
  /// @throws FileError; InputError if the header exceeds kMaxSafetensorsHeaderBytes.
  void write(const std::filesystem::path& path) const;

 private:
  std::vector<SafetensorsTensor> tensors_;  ///< in the order of the file
  std::map<std::string, std::string> metadata_;
};

}  // namespace flex
