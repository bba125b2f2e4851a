#include "base/read_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/file_descriptor.h"
#include "base/file_error.h"

namespace flex {

std::string read_file(const std::filesystem::path& path, std::int64_t max_bytes) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) fail_file("open", path, errno);
  std::string content;
  std::vector<char> buffer(std::size_t{1} << 16);
  while (true) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_file("read", path, errno);
    if (count == 0) return content;
    content.append(buffer.data(), static_cast<std::size_t>(count));
    require(static_cast<std::int64_t>(content.size()) <= max_bytes,
            "{}: is larger than {} bytes, the most read here", path.string(), max_bytes);
  }
}

}  // namespace flex
