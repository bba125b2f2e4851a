#include <zlib.h>

#include <array>
#include <optional>
#include <string>

#include "base/require.h"
#include "traces/byte_source.h"

namespace flex {
namespace {

constexpr int kGzipWindowBits = 16 + MAX_WBITS;  // gzip members, and nothing else
constexpr std::size_t kInputBytes = std::size_t{1} << 16;

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<ByteSource> compressed) : compressed_(std::move(compressed)) {
    if (inflateInit2(&stream_, kGzipWindowBits) != Z_OK) fail<Error>("zlib cannot begin to unpack");
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  [[nodiscard]] std::size_t read(std::span<char> bytes) override {
    stream_.next_out = reinterpret_cast<Bytef*>(bytes.data());
    stream_.avail_out = static_cast<uInt>(bytes.size());
    while (stream_.avail_out == bytes.size() && !damage_ && !is_at_end_) unpack();
    const std::size_t count = bytes.size() - stream_.avail_out;
    if (count == 0 && damage_) throw InputError(*damage_);
    return count;
  }

 private:
  void refill() {
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
    stream_.avail_in = static_cast<uInt>(compressed_->read(input_));
  }

  void unpack() {
    if (stream_.avail_in == 0) refill();
    if (stream_.avail_in == 0) {
      is_at_end_ = true;
      if (is_in_member_) damage_ = "the gzip data are cut off";
      return;
    }
    if (is_after_member_) {
      if (inflateReset(&stream_) != Z_OK) damage_ = "zlib cannot go on unpacking";
      is_after_member_ = false;
    }
    is_in_member_ = true;
    const int status = inflate(&stream_, Z_NO_FLUSH);
    if (status == Z_STREAM_END) {
      is_in_member_ = false;
      is_after_member_ = true;
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      damage_ =
          fmt::format("not gzip data, or damaged ({})", stream_.msg != nullptr ? stream_.msg : "no reason");
    }
  }

  std::unique_ptr<ByteSource> compressed_;
  std::array<char, kInputBytes> input_{};
  z_stream stream_{};
  bool is_in_member_ = false;
  bool is_after_member_ = false;
  bool is_at_end_ = false;
  std::optional<std::string> damage_;
};

}  // namespace

std::unique_ptr<ByteSource> gzip_source(std::unique_ptr<ByteSource> compressed) {
  return std::make_unique<GzipSource>(std::move(compressed));
}

}  // namespace flex
