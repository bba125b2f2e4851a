#include "models/data/image_decoder.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "base/error.h"
#include "base/philox.h"
#include "tests/models/data/image_files.h"

namespace flex {
namespace {

using testing::encode_jpeg;
using testing::encode_png;
using ::testing::HasSubstr;
using testing::JpegInks;
using testing::plain_image;
using testing::PngKind;
using testing::textured_image;
using ::testing::ThrowsMessage;

RgbImage decode(std::string_view bytes, std::int64_t least_side = 0) {
  RgbImage image;
  decode_image(bytes, "an image", least_side, image);
  return image;
}

int largest_difference(const RgbImage& a, const RgbImage& b) {
  EXPECT_EQ(a.pixels.size(), b.pixels.size());
  int largest = 0;
  for (std::size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i)
    largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  return largest;
}

TEST(ImageDecoder, PngKeepsEveryPixel) {
  const RgbImage image = textured_image(13, 21, 1);
  for (const bool interlaced : {false, true}) {
    const RgbImage decoded = decode(encode_png(image, PngKind::kRgb, 255, interlaced));
    EXPECT_EQ(decoded.height, 13);
    EXPECT_EQ(decoded.width, 21);
    EXPECT_EQ(decoded.pixels, image.pixels);
  }
}

TEST(ImageDecoder, EveryKindOfPngBecomesRgb) {
  RgbImage grey = textured_image(5, 11, 2);
  for (std::size_t i = 0; i < grey.pixels.size(); ++i) grey.pixels[i] = grey.pixels[i - i % 3];
  EXPECT_EQ(decode(encode_png(grey, PngKind::kRgb16)).pixels, grey.pixels);
  EXPECT_EQ(decode(encode_png(grey, PngKind::kGrey16)).pixels, grey.pixels);
  EXPECT_EQ(decode(encode_png(grey, PngKind::kPalette)).pixels, grey.pixels);
  RgbImage two_valued = grey;
  for (std::uint8_t& value : two_valued.pixels) value = value >= 128 ? 255 : 0;
  EXPECT_EQ(decode(encode_png(grey, PngKind::kGrey1)).pixels, two_valued.pixels);
}

// 100 at alpha 51 of 255, a fifth, over white: 20 + 4/5 * 255 = 224.
TEST(ImageDecoder, TransparentPixelsLieOnWhite) {
  const RgbImage image = plain_image(2, 2, 100, 0, 255);
  EXPECT_EQ(decode(encode_png(image, PngKind::kRgbAlpha, 51)).pixels,
            plain_image(2, 2, 224, 204, 255).pixels);
  EXPECT_EQ(decode(encode_png(image, PngKind::kRgbAlpha, 255)).pixels, image.pixels);
  EXPECT_EQ(decode(encode_png(image, PngKind::kRgbAlpha, 0)).pixels, plain_image(2, 2, 255, 255, 255).pixels);
}

// A flat colour survives but for the rounding of two colour transforms.
TEST(ImageDecoder, EveryKindOfJpegBecomesRgb) {
  const RgbImage colour = plain_image(24, 40, 200, 40, 90);
  EXPECT_LE(largest_difference(decode(encode_jpeg(colour, 95)), colour), 3);
  EXPECT_LE(largest_difference(decode(encode_jpeg(colour, 95, JpegInks::kRgb, true)), colour), 3);
  EXPECT_LE(largest_difference(decode(encode_jpeg(colour, 95, JpegInks::kCmyk)), colour), 3);
  EXPECT_LE(largest_difference(decode(encode_jpeg(colour, 95, JpegInks::kGrey)),
                               plain_image(24, 40, 200, 200, 200)),
            3);
}

TEST(ImageDecoder, JpegIsScaledDownAsFarAsTheLeastSideAllows) {
  const std::string file = encode_jpeg(textured_image(160, 320, 3), 90);
  struct Case {
    std::int64_t least_side, height;
  };
  for (const Case& test : {Case{0, 160}, Case{81, 160}, Case{80, 80}, Case{41, 80}, Case{40, 40},
                           Case{20, 20}, Case{1, 20}, Case{1000, 160}}) {
    const RgbImage image = decode(file, test.least_side);
    EXPECT_EQ(image.height, test.height) << test.least_side;
    EXPECT_EQ(image.width, 2 * test.height) << test.least_side;
  }
}

TEST(ImageDecoder, BytesThatAreNoImageAreNamed) {
  EXPECT_THAT([] { decode(""); }, ThrowsMessage<InputError>("an image: is empty"));
  EXPECT_THAT([] { decode("just text"); }, ThrowsMessage<InputError>("an image: is neither JPEG nor PNG"));
  EXPECT_THAT([] { decode("\xFF\xD8\xFF"); },
              ThrowsMessage<InputError>(HasSubstr("an image: corrupt JPEG: ")));
  EXPECT_THAT([] { decode("\x89PNG\r\n\x1A\n"); },
              ThrowsMessage<InputError>("an image: corrupt PNG: it ends too soon"));
}

TEST(ImageDecoder, EveryTruncationIsAnError) {
  const RgbImage image = textured_image(20, 20, 4);
  const std::string jpeg = encode_jpeg(image, 80);
  for (std::size_t size = 0; size + 2 < jpeg.size(); ++size)  // the last two bytes only mark the end
    EXPECT_THROW(decode(jpeg.substr(0, size)), InputError) << size << " of " << jpeg.size();
  const std::string png = encode_png(image);
  for (std::size_t size = 0; size < png.size(); ++size)
    EXPECT_THROW(decode(png.substr(0, size)), InputError) << size << " of " << png.size();
}

// The size stands at fixed places: a JPEG's after the marker of its frame, a PNG's at byte 16, with a
// checksum.
TEST(ImageDecoder, AbsurdSizesAreRefused) {
  std::string jpeg = encode_jpeg(textured_image(16, 16, 5), 80);
  const std::size_t frame = jpeg.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  for (std::size_t i = 5; i < 9; ++i) jpeg[frame + i] = '\xF0';
  EXPECT_THAT([&] { decode(jpeg); },
              ThrowsMessage<InputError>(
                  "an image: 61680 x 61680 pixels are more than 268435456, the most decoded here"));
  EXPECT_THROW(check_image_size("x", std::int64_t{1} << 40, std::int64_t{1} << 40), InputError);
  EXPECT_THROW(check_image_size("x", 0, 4), InputError);
  EXPECT_NO_THROW(check_image_size("x", 1 << 14, 1 << 14));
}

// Random damage gives an image or an error, never anything else. Bytes of the size are left alone where they
// would only make large images.
TEST(ImageDecoder, DamagedFilesNeverDoMoreThanThrow) {
  const RgbImage image = textured_image(24, 24, 6);
  const std::vector<std::string> files = {encode_jpeg(image, 80),
                                          encode_jpeg(image, 80, JpegInks::kRgb, true),
                                          encode_jpeg(image, 80, JpegInks::kCmyk), encode_png(image),
                                          encode_png(image, PngKind::kPalette, 255, true)};
  PhiloxStream random(7);
  int num_refused = 0;
  for (const std::string& file : files) {
    for (int round = 0; round < 400; ++round) {
      std::string damaged = file;
      for (std::int64_t i = random.below(8); i >= 0; --i) {
        char& byte = damaged[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(file.size())))];
        byte = static_cast<char>(static_cast<unsigned char>(byte) ^ (1U << random.below(8)));
      }
      if (random.below(4) == 0)
        damaged.resize(static_cast<std::size_t>(random.below(1 + static_cast<std::int64_t>(file.size()))));
      try {
        const RgbImage decoded = decode(damaged, random.below(32));
        ASSERT_EQ(decoded.pixels.size(), static_cast<std::size_t>(decoded.height * decoded.width * 3));
      } catch (const InputError&) {
        ++num_refused;
      }
    }
  }
  EXPECT_GT(num_refused, 500);
}

}  // namespace
}  // namespace flex
