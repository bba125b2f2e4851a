#include "base/safetensors_writer.h"

#include <algorithm>

#include "base/json.h"
#include "base/require.h"
#include "base/safetensors_stream.h"

namespace flex {
namespace {

bool lies_before(const SafetensorsTensor& a, const SafetensorsTensor& b) {
  return std::pair(-element_bytes(a.dtype), std::string_view(a.name)) <
         std::pair(-element_bytes(b.dtype), std::string_view(b.name));
}

}  // namespace

void SafetensorsWriter::add(std::string_view name, SafetensorsDType dtype,
                            std::span<const std::int64_t> shape, std::span<const std::byte> bytes) {
  require(name != kSafetensorsMetadataKey, "tensor {}: the name is reserved", quote_name(name));
  require(is_utf8(name), "tensor {}: the name is not UTF-8", quote_name(name));
  const bool is_taken =
      std::any_of(tensors_.begin(), tensors_.end(), [&](const auto& tensor) { return tensor.name == name; });
  require(!is_taken, "tensor {}: added twice", quote_name(name));
  const auto elements = num_elements(shape, dtype);
  require(elements.has_value(), "tensor {}: the shape is negative or has more elements than fit any file",
          quote_name(name));
  require(std::cmp_equal(bytes.size(), *elements * element_bytes(dtype)),
          "tensor {}: has {} bytes; {} elements of {} need {}", quote_name(name), bytes.size(), *elements,
          name_of(dtype), *elements * element_bytes(dtype));
  SafetensorsTensor tensor = {std::string(name), dtype, {shape.begin(), shape.end()}, bytes};
  tensors_.insert(std::upper_bound(tensors_.begin(), tensors_.end(), tensor, lies_before), std::move(tensor));
}

void SafetensorsWriter::set_metadata(std::string_view key, std::string_view value) {
  require(is_utf8(key) && is_utf8(value), "metadata {}: the key or the value is not UTF-8", quote_name(key));
  metadata_.insert_or_assign(std::string(key), std::string(value));
}

void SafetensorsWriter::write(const std::filesystem::path& path) const {
  std::vector<SafetensorsEntry> entries;
  for (const SafetensorsTensor& tensor : tensors_)
    entries.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
  SafetensorsStream stream(path, entries, metadata_);
  for (const SafetensorsTensor& tensor : tensors_) stream.write(tensor.bytes);
  stream.commit();
}

}  // namespace flex
