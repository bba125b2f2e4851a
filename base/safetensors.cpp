#include "base/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/file_descriptor.h"
#include "base/file_error.h"
#include "base/json.h"
#include "base/nearest_name.h"

namespace flex {

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  // Not blocking on a named pipe without a writer: it is refused below.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) fail_file("open", path, errno);
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) fail_file("read", path, errno);
  require<FileError>(S_ISREG(status.st_mode), "cannot map {}: it is not a regular file", path.string());
  const auto size = static_cast<std::size_t>(status.st_size);
  std::span<const std::byte> bytes;
  if (size > 0) {  // an empty mapping is an error of its own; the parser has the better message
    void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (address == MAP_FAILED) fail_file("map", path, errno);
    mapping_ = {static_cast<const std::byte*>(address),
                [size](const std::byte* mapped) { ::munmap(const_cast<std::byte*>(mapped), size); }};
    bytes = {mapping_.get(), size};
  }
  content_ = parse_safetensors(bytes, path.string());
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::lower_bound(
      content_.tensors.begin(), content_.tensors.end(), name,
      [](const SafetensorsTensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return found != content_.tensors.end() && found->name == name ? &*found : nullptr;
}

const SafetensorsTensor& SafetensorsFile::at(std::string_view name) const {
  if (const SafetensorsTensor* tensor = find(name)) return *tensor;
  std::vector<std::string> names;
  for (const SafetensorsTensor& tensor : content_.tensors) names.push_back(tensor.name);
  const auto nearest = nearest_name(name, names);
  fail("{}: has no tensor {}{}", path_.string(), quote_name(name),
       nearest ? fmt::format("; there is {}", quote_name(*nearest))
               : fmt::format(" among its {}", names.size()));
}

}  // namespace flex
