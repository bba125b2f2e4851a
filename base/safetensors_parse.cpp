#include "base/safetensors_parse.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"

namespace flex {
namespace {

constexpr std::size_t kLengthBytes = 8;

// The header's text, checked against the size of the file.
std::string_view header_text(std::span<const std::byte> file, std::string_view where) {
  require(file.size() >= kLengthBytes,
          "{}: has {} bytes; a safetensors file begins with 8 bytes of header length", where, file.size());
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  require(length <= kMaxSafetensorsHeaderBytes, "{}: header length is {}; at most {} is read", where, length,
          kMaxSafetensorsHeaderBytes);
  require(length <= file.size() - kLengthBytes,
          "{}: header length is {}, but {} bytes follow it; the file is cut off", where, length,
          file.size() - kLengthBytes);
  const auto header = file.subspan(kLengthBytes, length);
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  require(text.starts_with('{'), "{}: the header does not begin with '{{'; this is no safetensors file",
          where);
  return text;
}

std::map<std::string, std::string> read_metadata(nlohmann::json value, std::string_view where) {
  JsonObject object(std::move(value), fmt::format("{}: {}", where, kSafetensorsMetadataKey));
  std::map<std::string, std::string> metadata;
  for (const std::string& key : object.keys()) metadata.emplace(key, object.required<std::string>(key));
  return metadata;
}

SafetensorsTensor read_tensor(const std::string& name, nlohmann::json value, std::span<const std::byte> data,
                              std::string_view where) {
  JsonObject object(std::move(value), fmt::format("{}: tensor {}", where, quote_name(name)));
  SafetensorsTensor tensor;
  tensor.name = name;
  const auto dtype_name = object.required<std::string>("dtype");
  const auto dtype = parse_safetensors_dtype(dtype_name);
  if (!dtype) object.reject("dtype", "is {}, which is not known", quote_name(dtype_name));
  tensor.dtype = *dtype;
  tensor.shape = object.required<std::vector<std::int64_t>>("shape", JsonRange::at_least(0));
  const auto offsets = object.required<std::vector<std::int64_t>>("data_offsets", JsonRange::at_least(0));
  object.finish();

  if (offsets.size() != 2) object.reject("data_offsets", "has {} numbers; it must have 2", offsets.size());
  const auto [begin, end] = std::pair(offsets[0], offsets[1]);
  if (begin > end)
    object.reject("data_offsets", "is [{}, {}]; the end lies before the beginning", begin, end);
  if (std::cmp_greater(end, data.size())) {
    object.reject("data_offsets", "is [{}, {}], but the file has {} bytes of data", begin, end, data.size());
  }
  const auto elements = num_elements(tensor.shape, tensor.dtype);
  if (!elements) object.reject("shape", "has more elements than fit any file");
  if (end - begin != *elements * element_bytes(tensor.dtype)) {
    object.reject("data_offsets", "holds {} bytes; {} elements of {} need {}", end - begin, *elements,
                  dtype_name, *elements * element_bytes(tensor.dtype));
  }
  tensor.bytes = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  return tensor;
}

// Every byte of the data belongs to exactly one tensor, so that a file cannot carry anything unseen.
void require_exact_cover(std::vector<SafetensorsTensor>& tensors, std::span<const std::byte> data,
                         std::string_view where) {
  const auto begin_of = [&](const SafetensorsTensor& tensor) { return tensor.bytes.data() - data.data(); };
  std::sort(tensors.begin(), tensors.end(), [&](const auto& a, const auto& b) {
    return std::pair(begin_of(a), a.bytes.size()) < std::pair(begin_of(b), b.bytes.size());
  });
  std::ptrdiff_t covered = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    const std::ptrdiff_t begin = begin_of(tensor);
    require(begin >= covered,
            "{}: tensor {} begins at byte {} of the data, inside another tensor that ends at {}", where,
            quote_name(tensor.name), begin, covered);
    require(begin <= covered, "{}: bytes {} to {} of the data, before tensor {}, belong to no tensor", where,
            covered, begin, quote_name(tensor.name));
    covered = begin + std::ssize(tensor.bytes);
  }
  require(covered == std::ssize(data), "{}: the tensors end at byte {} of the data, which has {}", where,
          covered, data.size());
}

}  // namespace

std::optional<std::int64_t> num_elements(std::span<const std::int64_t> shape, SafetensorsDType dtype) {
  std::int64_t size_bytes = element_bytes(dtype);
  bool is_empty = false;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    is_empty = is_empty || dimension == 0;
    if (__builtin_mul_overflow(size_bytes, std::max<std::int64_t>(dimension, 1), &size_bytes))
      return std::nullopt;
  }
  return is_empty ? 0 : size_bytes / element_bytes(dtype);
}

SafetensorsContent parse_safetensors(std::span<const std::byte> file, std::string_view where) {
  const std::string_view text = header_text(file, where);
  const auto data = file.subspan(kLengthBytes + text.size());
  nlohmann::json header = parse_json(text, fmt::format("{}: header", where));
  SafetensorsContent content;
  for (auto& [name, value] : header.items()) {
    if (name == kSafetensorsMetadataKey) {
      content.metadata = read_metadata(std::move(value), where);
    } else {
      content.tensors.push_back(read_tensor(name, std::move(value), data, where));
    }
  }
  require_exact_cover(content.tensors, data, where);
  std::sort(content.tensors.begin(), content.tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return content;
}

}  // namespace flex
