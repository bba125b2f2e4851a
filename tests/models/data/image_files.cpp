#include "tests/models/data/image_files.h"

#include <cstdio>  // jpeglib.h needs FILE
// clang-format off
#include <jpeglib.h>
// clang-format on
#include <png.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "base/philox.h"

namespace flex::testing {
namespace {

constexpr std::int64_t kChannels = 3;

std::vector<JSAMPLE> samples_of(const RgbImage& image, JpegInks inks) {
  if (inks == JpegInks::kRgb) return image.pixels;
  std::vector<JSAMPLE> samples;
  for (std::size_t i = 0; i < image.pixels.size(); i += kChannels) {
    samples.push_back(image.pixels[i]);
    if (inks == JpegInks::kGrey) continue;
    samples.insert(samples.end(), {image.pixels[i + 1], image.pixels[i + 2], 255});
  }
  return samples;
}

int bit_depth(PngKind kind) {
  if (kind == PngKind::kRgb16 || kind == PngKind::kGrey16) return 16;
  return kind == PngKind::kGrey1 ? 1 : 8;
}

int colour_type(PngKind kind) {
  switch (kind) {
    case PngKind::kRgb:
    case PngKind::kRgb16:
      return PNG_COLOR_TYPE_RGB;
    case PngKind::kRgbAlpha:
      return PNG_COLOR_TYPE_RGB_ALPHA;
    case PngKind::kGrey1:
    case PngKind::kGrey16:
      return PNG_COLOR_TYPE_GRAY;
    case PngKind::kPalette:
      return PNG_COLOR_TYPE_PALETTE;
  }
  return PNG_COLOR_TYPE_RGB;
}

std::vector<png_byte> row_of(const RgbImage& image, std::int64_t row, PngKind kind, int alpha) {
  const std::uint8_t* pixels = image.pixels.data() + row * image.width * kChannels;
  std::vector<png_byte> bytes;
  for (std::int64_t column = 0; column < image.width; ++column) {
    const std::uint8_t* pixel = pixels + column * kChannels;
    switch (kind) {
      case PngKind::kRgb:
        bytes.insert(bytes.end(), pixel, pixel + kChannels);
        break;
      case PngKind::kRgb16:
        for (std::int64_t channel = 0; channel < kChannels; ++channel)
          bytes.insert(bytes.end(), {pixel[channel], 0x7F});
        break;
      case PngKind::kRgbAlpha:
        bytes.insert(bytes.end(), {pixel[0], pixel[1], pixel[2], static_cast<png_byte>(alpha)});
        break;
      case PngKind::kGrey1:
        if (column % 8 == 0) bytes.push_back(0);
        if (pixel[0] >= 128) bytes.back() |= static_cast<png_byte>(0x80U >> (column % 8));
        break;
      case PngKind::kGrey16:
        bytes.insert(bytes.end(), {pixel[0], 0x7F});
        break;
      case PngKind::kPalette:
        bytes.push_back(pixel[0]);
        break;
    }
  }
  return bytes;
}

}  // namespace

std::string encode_jpeg(const RgbImage& image, int quality, JpegInks inks, bool progressive) {
  jpeg_compress_struct codec{};
  jpeg_error_mgr errors{};
  codec.err = ::jpeg_std_error(&errors);
  ::jpeg_create_compress(&codec);
  unsigned char* bytes = nullptr;
  unsigned long num_bytes = 0;  // NOLINT(google-runtime-int): libjpeg's type
  ::jpeg_mem_dest(&codec, &bytes, &num_bytes);
  codec.image_height = static_cast<JDIMENSION>(image.height);
  codec.image_width = static_cast<JDIMENSION>(image.width);
  codec.input_components = inks == JpegInks::kRgb ? 3 : inks == JpegInks::kGrey ? 1 : 4;
  codec.in_color_space = inks == JpegInks::kRgb    ? JCS_RGB
                         : inks == JpegInks::kGrey ? JCS_GRAYSCALE
                                                   : JCS_CMYK;
  ::jpeg_set_defaults(&codec);
  codec.write_Adobe_marker = inks == JpegInks::kCmyk ? TRUE : FALSE;
  ::jpeg_set_quality(&codec, quality, TRUE);
  if (progressive) ::jpeg_simple_progression(&codec);
  ::jpeg_start_compress(&codec, TRUE);
  std::vector<JSAMPLE> samples = samples_of(image, inks);
  while (codec.next_scanline < codec.image_height) {
    JSAMPROW row = samples.data() + static_cast<std::size_t>(codec.next_scanline) * codec.image_width *
                                        static_cast<std::size_t>(codec.input_components);
    ::jpeg_write_scanlines(&codec, &row, 1);
  }
  ::jpeg_finish_compress(&codec);
  ::jpeg_destroy_compress(&codec);
  std::string file(reinterpret_cast<const char*>(bytes), num_bytes);
  std::free(bytes);
  return file;
}

std::string encode_png(const RgbImage& image, PngKind kind, int alpha, bool interlaced) {
  png_structp png = ::png_create_write_struct(
      PNG_LIBPNG_VER_STRING, nullptr,
      [](png_structp, png_const_charp message) { throw std::runtime_error(message); }, nullptr);
  png_infop info = ::png_create_info_struct(png);
  std::string file;
  ::png_set_write_fn(
      png, &file,
      [](png_structp to, png_bytep bytes, std::size_t count) {
        static_cast<std::string*>(::png_get_io_ptr(to))->append(reinterpret_cast<const char*>(bytes), count);
      },
      [](png_structp) {});
  ::png_set_IHDR(png, info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height),
                 bit_depth(kind), colour_type(kind), interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  std::array<png_color, 256> palette{};
  for (std::size_t i = 0; i < palette.size(); ++i) {
    const auto grey = static_cast<png_byte>(i);
    palette[i] = {grey, grey, grey};
  }
  if (kind == PngKind::kPalette) ::png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
  ::png_write_info(png, info);
  std::vector<std::vector<png_byte>> rows;
  std::vector<png_bytep> pointers;
  for (std::int64_t row = 0; row < image.height; ++row) rows.push_back(row_of(image, row, kind, alpha));
  for (std::vector<png_byte>& row : rows) pointers.push_back(row.data());
  ::png_write_image(png, pointers.data());
  ::png_write_end(png, info);
  ::png_destroy_write_struct(&png, &info);
  return file;
}

RgbImage textured_image(std::int64_t height, std::int64_t width, std::uint64_t seed) {
  constexpr int kWaves = 48;
  constexpr int kDiscs = 6;
  constexpr double kTwoPi = 6.283185307179586;
  struct Wave {
    double across, down, phase;
    std::array<double, kChannels> amplitude;
  };
  struct Disc {
    double x, y, radius;
    std::array<double, kChannels> colour;
  };
  PhiloxStream random(seed, 0x696D616765);
  std::array<Wave, kWaves> waves{};
  for (Wave& wave : waves) {
    // As many waves in every octave, with amplitudes as the inverse of the frequency: the spectrum of
    // photographs.
    const double frequency = std::exp2(6 * random.uniform());
    const double angle = kTwoPi * random.uniform();
    wave = {frequency * std::cos(angle), frequency * std::sin(angle), kTwoPi * random.uniform(), {}};
    const double strength = 34 / std::pow(frequency, 0.7);
    for (double& amplitude : wave.amplitude) amplitude = strength * (0.7 + 0.6 * random.uniform());
  }
  std::array<Disc, kDiscs> discs{};
  for (Disc& disc : discs) {
    disc = {random.uniform(), random.uniform(), 0.05 + 0.2 * random.uniform(), {}};
    for (double& value : disc.colour) value = 120 * (random.uniform() - 0.5);
  }
  RgbImage image{height, width,
                 std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * kChannels))};
  std::size_t index = 0;
  for (std::int64_t row = 0; row < height; ++row) {
    for (std::int64_t column = 0; column < width; ++column) {
      const double x = static_cast<double>(column) / static_cast<double>(width);
      const double y = static_cast<double>(row) / static_cast<double>(height);
      std::array<double, kChannels> value = {118, 112, 104};
      for (const Wave& wave : waves) {
        const double height_of_wave = std::sin(kTwoPi * (wave.across * x + wave.down * y) + wave.phase);
        for (std::size_t channel = 0; channel < kChannels; ++channel)
          value[channel] += wave.amplitude[channel] * height_of_wave;
      }
      for (const Disc& disc : discs) {
        if (std::hypot(x - disc.x, y - disc.y) > disc.radius) continue;
        for (std::size_t channel = 0; channel < kChannels; ++channel) value[channel] += disc.colour[channel];
      }
      const double noise = 5 * random.normal();
      for (const double sum : value)
        image.pixels[index++] = static_cast<std::uint8_t>(std::clamp(sum + noise, 0.0, 255.0));
    }
  }
  return image;
}

RgbImage plain_image(std::int64_t height, std::int64_t width, std::uint8_t red, std::uint8_t green,
                     std::uint8_t blue) {
  RgbImage image{height, width, {}};
  for (std::int64_t i = 0; i < height * width; ++i)
    image.pixels.insert(image.pixels.end(), {red, green, blue});
  return image;
}

void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace flex::testing
