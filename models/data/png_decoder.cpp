#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>
#include <vector>

#include "base/require.h"
#include "models/data/image_decoder.h"

namespace flex {
namespace {

constexpr std::int64_t kSamples = 4;  // red, green, blue, alpha
constexpr std::int64_t kChannels = 3;
constexpr std::int64_t kMostExpansion = 1032;  // of deflate. @source zlib's technical notes

/// Reads a PNG file from memory. libpng reports an error by a jump back into the function that called it; all
/// that lives across one is a member, outside of that function.
class PngFile {
 public:
  PngFile(std::string_view bytes, std::string_view where) : rest_(bytes), where_(where) {
    message_.fill('\0');
    png_ = ::png_create_read_struct(PNG_LIBPNG_VER_STRING, this, leave, [](png_structp, png_const_charp) {});
    if (png_ != nullptr) info_ = ::png_create_info_struct(png_);
    require<OutOfMemoryError>(info_ != nullptr, "{}: no memory for libpng", where);
    ::png_set_read_fn(png_, this, take);
  }
  ~PngFile() { ::png_destroy_read_struct(&png_, &info_, nullptr); }
  PngFile(const PngFile&) = delete;
  PngFile& operator=(const PngFile&) = delete;

  void decode(RgbImage& image) {
    const auto num_bytes = static_cast<std::int64_t>(rest_.size());
    if (!read_header()) fail_with_reason();
    image.height = ::png_get_image_height(png_, info_);
    image.width = ::png_get_image_width(png_, info_);
    check_image_size(where_, image.height, image.width);
    const auto stored_row_bytes = static_cast<std::int64_t>(::png_get_rowbytes(png_, info_));
    require(image.height * stored_row_bytes / kMostExpansion <= num_bytes,
            "{}: corrupt PNG: {} bytes cannot hold {} x {} pixels", where_, num_bytes, image.width,
            image.height);
    std::vector<png_byte> samples(static_cast<std::size_t>(image.height * image.width * kSamples));
    rows_.resize(static_cast<std::size_t>(image.height));
    for (std::int64_t row = 0; row < image.height; ++row)
      rows_[static_cast<std::size_t>(row)] = samples.data() + row * image.width * kSamples;
    if (!read_rows()) fail_with_reason();
    lay_on_white(samples, image);
  }

 private:
  [[noreturn]] void fail_with_reason() const { fail("{}: corrupt PNG: {}", where_, message_.data()); }

  static void leave(png_structp png, png_const_charp message) {
    auto* self = static_cast<PngFile*>(::png_get_error_ptr(png));
    std::strncpy(self->message_.data(), message, self->message_.size() - 1);
    ::png_longjmp(png, 1);
  }
  static void take(png_structp png, png_bytep to, std::size_t count) {
    auto* self = static_cast<PngFile*>(::png_get_io_ptr(png));
    if (self->rest_.size() < count) ::png_error(png, "it ends too soon");
    std::memcpy(to, self->rest_.data(), count);
    self->rest_.remove_prefix(count);
  }

  // The functions that set a jump have no objects to destroy; false: libpng left with a message.
  bool read_header() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    ::png_read_info(png_, info_);
    return true;
  }

  bool read_rows() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    ::png_set_expand(png_);  // palettes, fewer than 8 bits, transparent colours
    ::png_set_strip_16(png_);
    ::png_set_gray_to_rgb(png_);
    ::png_set_filler(png_, 0xFF, PNG_FILLER_AFTER);  // opaque, where there is no alpha
    ::png_set_interlace_handling(png_);
    ::png_read_update_info(png_, info_);
    if (static_cast<std::int64_t>(::png_get_rowbytes(png_, info_)) !=
        kSamples * static_cast<std::int64_t>(::png_get_image_width(png_, info_))) {
      ::png_error(png_, "its pixels are of an unknown kind");
    }
    ::png_read_image(png_, rows_.data());
    ::png_read_end(png_, nullptr);  // finds that the last chunk is missing
    return true;
  }

  static void lay_on_white(const std::vector<png_byte>& samples, RgbImage& image) {
    constexpr int kMost = 255;
    const auto num_pixels = static_cast<std::size_t>(image.height * image.width);
    image.pixels.resize(num_pixels * kChannels);
    for (std::size_t pixel = 0; pixel < num_pixels; ++pixel) {
      const int alpha = samples[kSamples * pixel + 3];
      for (std::size_t channel = 0; channel < kChannels; ++channel) {
        const int sum = samples[kSamples * pixel + channel] * alpha + kMost * (kMost - alpha);
        image.pixels[kChannels * pixel + channel] = static_cast<std::uint8_t>((sum + kMost / 2) / kMost);
      }
    }
  }

  std::string_view rest_;
  std::string_view where_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::array<char, 128> message_;
  std::vector<png_bytep> rows_;
};

}  // namespace

void decode_png(std::string_view bytes, std::string_view where, RgbImage& image) {
  PngFile(bytes, where).decode(image);
}

}  // namespace flex
