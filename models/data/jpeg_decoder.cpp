#include <cstdio>  // jpeglib.h needs FILE
// clang-format off: jpeglib.h must come before jerror.h
#include <jerror.h>
#include <jpeglib.h>
// clang-format on

#include <algorithm>
#include <array>
#include <csetjmp>
#include <string>

#include "base/require.h"
#include "models/data/image_decoder.h"

namespace flex {
namespace {

constexpr int kMaxScans = 500;  // of a progressive file; more serve only to keep a decoder busy
constexpr std::int64_t kChannels = 3;
constexpr std::int64_t kInks = 4;

/// libjpeg's error manager, which must not return from an error: it jumps back into decode_rows().
struct JpegErrors {
  jpeg_error_mgr manager;  // first: libjpeg has its address
  std::jmp_buf back;
  std::array<char, JMSG_LENGTH_MAX> message;
};

[[noreturn]] void leave(j_common_ptr codec) {
  auto* errors = reinterpret_cast<JpegErrors*>(codec->err);
  (*codec->err->format_message)(codec, errors->message.data());
  std::longjmp(errors->back, 1);
}

// libjpeg fills up with grey what a file lacks and only warns. Its other warnings, of padding between the
// markers as a rule, cost no pixels.
void leave_if_truncated(j_common_ptr codec, int level) {
  const int code = codec->err->msg_code;
  if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) leave(codec);
}

void leave_after_many_scans(j_common_ptr codec) {
  if (reinterpret_cast<j_decompress_ptr>(codec)->input_scan_number <= kMaxScans) return;
  auto* errors = reinterpret_cast<JpegErrors*>(codec->err);
  std::snprintf(errors->message.data(), errors->message.size(), "it has more than %d scans", kMaxScans);
  std::longjmp(errors->back, 1);
}

/// A decompressor and what it points to; all that lives across a longjmp is in here, outside of the function
/// that jumps.
class JpegFile {
 public:
  JpegFile(std::string_view bytes, std::string_view where) : bytes_(bytes), where_(where) {
    codec_.err = ::jpeg_std_error(&errors_.manager);
    errors_.manager.error_exit = leave;
    errors_.manager.emit_message = leave_if_truncated;
    errors_.manager.output_message = [](j_common_ptr) {};
    errors_.message.fill('\0');
    progress_.progress_monitor = leave_after_many_scans;
  }
  ~JpegFile() { ::jpeg_destroy_decompress(&codec_); }
  JpegFile(const JpegFile&) = delete;
  JpegFile& operator=(const JpegFile&) = delete;

  void decode(std::int64_t least_side, RgbImage& image) {
    if (!read_header()) fail_with_reason();
    check_image_size(where_, codec_.image_height, codec_.image_width);
    codec_.scale_num = 1;
    codec_.scale_denom = divisor(least_side);
    ::jpeg_calc_output_dimensions(&codec_);
    image.height = codec_.output_height;
    image.width = codec_.output_width;
    image.pixels.resize(static_cast<std::size_t>(image.height * image.width * kChannels));
    if (has_inks()) {
      std::string inks(static_cast<std::size_t>(image.height * image.width * kInks), '\0');
      if (!decode_rows(reinterpret_cast<JSAMPLE*>(inks.data()), image.width * kInks)) fail_with_reason();
      multiply_inks(reinterpret_cast<const JSAMPLE*>(inks.data()), image);
    } else if (!decode_rows(image.pixels.data(), image.width * kChannels)) {
      fail_with_reason();
    }
  }

 private:
  [[noreturn]] void fail_with_reason() const { fail("{}: corrupt JPEG: {}", where_, errors_.message.data()); }
  [[nodiscard]] bool has_inks() const { return codec_.out_color_space == JCS_CMYK; }

  // The functions that set a jump have no objects to destroy; false: libjpeg left with a message.
  bool read_header() {
    if (setjmp(errors_.back) != 0) return false;
    ::jpeg_create_decompress(&codec_);
    codec_.progress = &progress_;
    ::jpeg_mem_src(&codec_, reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size());
    ::jpeg_read_header(&codec_, TRUE);
    const bool of_inks = codec_.jpeg_color_space == JCS_CMYK || codec_.jpeg_color_space == JCS_YCCK;
    codec_.out_color_space = of_inks ? JCS_CMYK : JCS_RGB;
    return true;
  }

  bool decode_rows(JSAMPLE* samples, std::int64_t row_bytes) {
    if (setjmp(errors_.back) != 0) return false;
    ::jpeg_start_decompress(&codec_);
    while (codec_.output_scanline < codec_.output_height) {
      JSAMPROW row = samples + row_bytes * codec_.output_scanline;
      ::jpeg_read_scanlines(&codec_, &row, 1);
    }
    ::jpeg_finish_decompress(&codec_);
    return true;
  }

  // Halves only: for these libjpeg-turbo has vector code.
  [[nodiscard]] unsigned divisor(std::int64_t least_side) const {
    constexpr unsigned kMostDivisor = 8;
    const auto shorter = static_cast<std::int64_t>(std::min(codec_.image_height, codec_.image_width));
    unsigned divisor = 1;
    while (least_side > 0 && divisor < kMostDivisor && shorter >= 2 * divisor * least_side) divisor *= 2;
    return divisor;
  }

  // Adobe's files hold 255 for no ink, others 0. RGB = (1 - C, 1 - M, 1 - Y) (1 - K).
  void multiply_inks(const JSAMPLE* inks, RgbImage& image) const {
    constexpr int kMost = 255;
    const bool is_inverted = codec_.saw_Adobe_marker != 0;
    const auto paper = [&](JSAMPLE ink) { return is_inverted ? ink : kMost - ink; };
    for (std::int64_t pixel = 0; pixel < image.height * image.width; ++pixel) {
      const int lightness = paper(inks[kInks * pixel + 3]);
      for (std::int64_t channel = 0; channel < kChannels; ++channel) {
        const int product = paper(inks[kInks * pixel + channel]) * lightness;
        image.pixels[static_cast<std::size_t>(kChannels * pixel + channel)] =
            static_cast<std::uint8_t>((product + kMost / 2) / kMost);
      }
    }
  }

  std::string_view bytes_;
  std::string_view where_;
  JpegErrors errors_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct codec_{};
};

}  // namespace

void decode_jpeg(std::string_view bytes, std::string_view where, std::int64_t least_side, RgbImage& image) {
  JpegFile(bytes, where).decode(least_side, image);
}

}  // namespace flex
