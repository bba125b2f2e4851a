#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/safetensors_dtype.h"

namespace flex {

/// A tensor that a file is to hold.
struct SafetensorsEntry {
  std::string name;
  SafetensorsDType dtype = SafetensorsDType::kF32;
  std::vector<std::int64_t> shape;  ///< empty for a scalar

  /// @throws InputError if the shape is negative or has more elements than fit any file.
  [[nodiscard]] std::int64_t bytes() const;
};

/// Writes a safetensors file tensor by tensor, so that they need not be in memory together. The file appears
/// at `path` with commit(), whole, as AtomicFile says.
class SafetensorsStream {
 public:
  /// Tensors will lie in the order of `entries`. One with larger elements behind one with smaller may not be
  /// aligned to them.
  /// @throws InputError for a name that is taken, reserved or not UTF-8, metadata that is not UTF-8, or a
  /// header that exceeds kMaxSafetensorsHeaderBytes; FileError.
  SafetensorsStream(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries,
                    const std::map<std::string, std::string>& metadata = {});

  /// Appends bytes of the entries, in their order. @throws FileError.
  void write(std::span<const std::byte> bytes);
  /// @throws Error if the entries have not got all their bytes, or more; FileError.
  void commit();

 private:
  std::filesystem::path path_;
  std::int64_t expected_bytes_ = 0;
  std::int64_t written_bytes_ = 0;
  AtomicFile file_;
};

}  // namespace flex
