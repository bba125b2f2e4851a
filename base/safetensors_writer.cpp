#include "base/safetensors_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr std::size_t kHeaderAlignmentBytes = 8;

bool is_utf8(std::string_view text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

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

std::string SafetensorsWriter::header() const {
  auto header = nlohmann::json::object();
  if (!metadata_.empty()) header[std::string(kSafetensorsMetadataKey)] = metadata_;
  std::size_t offset = 0;
  for (const SafetensorsTensor& tensor : tensors_) {
    const std::size_t end = offset + tensor.bytes.size();
    header[tensor.name] = {
        {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((kHeaderAlignmentBytes - text.size() % kHeaderAlignmentBytes) % kHeaderAlignmentBytes, ' ');
  return text;
}

void SafetensorsWriter::write(const std::filesystem::path& path) const {
  const std::string text = header();
  const std::uint64_t length = text.size();
  require(length <= kMaxSafetensorsHeaderBytes, "{}: the header has {} bytes; at most {} can be read back",
          path.string(), length, kMaxSafetensorsHeaderBytes);
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const SafetensorsTensor& tensor : tensors_) file.write(tensor.bytes);
  file.commit();
}

}  // namespace flex
