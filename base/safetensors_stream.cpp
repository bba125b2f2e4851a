#include "base/safetensors_stream.h"

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/require.h"
#include "base/safetensors_parse.h"

namespace flex {
namespace {

constexpr std::size_t kHeaderAlignmentBytes = 8;

std::string header_of(const std::vector<SafetensorsEntry>& entries,
                      const std::map<std::string, std::string>& metadata) {
  auto header = nlohmann::json::object();
  for (const auto& [key, value] : metadata)
    require(is_utf8(key) && is_utf8(value), "metadata {}: the key or the value is not UTF-8",
            quote_name(key));
  if (!metadata.empty()) header[std::string(kSafetensorsMetadataKey)] = metadata;
  std::int64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    require(entry.name != kSafetensorsMetadataKey, "tensor {}: the name is reserved", quote_name(entry.name));
    require(is_utf8(entry.name), "tensor {}: the name is not UTF-8", quote_name(entry.name));
    require(!header.contains(entry.name), "tensor {}: added twice", quote_name(entry.name));
    const std::int64_t end = offset + entry.bytes();
    header[entry.name] = {
        {"dtype", name_of(entry.dtype)}, {"shape", entry.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((kHeaderAlignmentBytes - text.size() % kHeaderAlignmentBytes) % kHeaderAlignmentBytes, ' ');
  return text;
}

}  // namespace

std::int64_t SafetensorsEntry::bytes() const {
  const auto elements = num_elements(shape, dtype);
  require(elements.has_value(), "tensor {}: the shape is negative or has more elements than fit any file",
          quote_name(name));
  return *elements * element_bytes(dtype);
}

SafetensorsStream::SafetensorsStream(const std::filesystem::path& path,
                                     const std::vector<SafetensorsEntry>& entries,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), file_(path) {
  const std::string text = header_of(entries, metadata);
  const std::uint64_t length = text.size();
  require(length <= kMaxSafetensorsHeaderBytes, "{}: the header has {} bytes; at most {} can be read back",
          path.string(), length, kMaxSafetensorsHeaderBytes);
  for (const SafetensorsEntry& entry : entries) expected_bytes_ += entry.bytes();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(text);
}

void SafetensorsStream::write(std::span<const std::byte> bytes) {
  file_.write(bytes);
  written_bytes_ += std::ssize(bytes);
}

void SafetensorsStream::commit() {
  require<Error>(written_bytes_ == expected_bytes_,
                 "{}: {} bytes of tensors were written; the header says {}", path_.string(), written_bytes_,
                 expected_bytes_);
  file_.commit();
}

}  // namespace flex
