#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>

#include "base/require.h"
#include "traces/byte_sink.h"

namespace flex {
namespace {

constexpr int kGzipWindowBits = 16 + MAX_WBITS;
constexpr int kMemoryLevel = 8;  // zlib's default
constexpr std::size_t kOutputBytes = std::size_t{1} << 16;

class GzipSink final : public ByteSink {
 public:
  explicit GzipSink(std::unique_ptr<ByteSink> packed) : packed_(std::move(packed)) {
    const int status = deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindowBits,
                                    kMemoryLevel, Z_DEFAULT_STRATEGY);
    require<Error>(status == Z_OK, "zlib cannot begin to pack");
  }
  ~GzipSink() override { deflateEnd(&stream_); }

  void write(std::string_view bytes) override {
    while (!bytes.empty()) {
      const std::size_t count = std::min<std::size_t>(bytes.size(), std::numeric_limits<uInt>::max());
      pack(bytes.substr(0, count), Z_NO_FLUSH);
      bytes.remove_prefix(count);
    }
  }
  void flush() override {
    pack({}, Z_SYNC_FLUSH);
    packed_->flush();
  }
  void close() override {
    pack({}, Z_FINISH);
    packed_->close();
  }

 private:
  void pack(std::string_view bytes, int mode) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));  // zlib only reads it
    stream_.avail_in = static_cast<uInt>(bytes.size());
    do {
      stream_.next_out = reinterpret_cast<Bytef*>(output_.data());
      stream_.avail_out = static_cast<uInt>(output_.size());
      const int status = deflate(&stream_, mode);
      require<Error>(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR,
                     "zlib cannot pack ({})", status);
      packed_->write({output_.data(), output_.size() - stream_.avail_out});
    } while (stream_.avail_out == 0);
  }

  std::unique_ptr<ByteSink> packed_;
  std::array<char, kOutputBytes> output_{};
  z_stream stream_{};
};

}  // namespace

std::unique_ptr<ByteSink> gzip_sink(std::unique_ptr<ByteSink> packed) {
  return std::make_unique<GzipSink>(std::move(packed));
}

}  // namespace flex
