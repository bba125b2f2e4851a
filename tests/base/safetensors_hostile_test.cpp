#include <fstream>

#include "base/error.h"
#include "base/safetensors.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

using testing::HasSubstr;

std::string file_of(std::string_view header, std::size_t num_data_bytes, std::uint64_t length) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + std::string(header) + std::string(num_data_bytes, 'd');
}

SafetensorsContent parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "x.st");
}

std::string error_of(std::string_view header, std::size_t num_data_bytes) {
  const std::string file = file_of(header, num_data_bytes, header.size());
  return message_of<InputError>([&] { (void)parse(file); });
}

std::string tensor_error_of(std::string_view fields, std::size_t num_data_bytes) {
  return error_of(R"({"w": {)" + std::string(fields) + "}}", num_data_bytes);
}

TEST(SafetensorsHostile, HeaderLength) {
  const auto error_with_length = [](std::uint64_t length) {
    return message_of<InputError>([&] { (void)parse(file_of("{}", 0, length)); });
  };
  EXPECT_EQ(error_with_length(3), "x.st: header length is 3, but 2 bytes follow it; the file is cut off");
  EXPECT_EQ(error_with_length(100'000'001), "x.st: header length is 100000001; at most 100000000 is read");
  EXPECT_THAT(error_with_length(std::uint64_t{1} << 63), HasSubstr("header length is 9223372036854775808"));
  EXPECT_THAT(error_with_length(~std::uint64_t{0}), HasSubstr("header length is"));
  EXPECT_EQ(error_with_length(0), "x.st: the header does not begin with '{'; this is no safetensors file");
  EXPECT_EQ(error_with_length(1).substr(0, 17), "x.st: header:1:1:");
}

TEST(SafetensorsHostile, HeaderIsNotAnObjectOfTensors) {
  EXPECT_THAT(error_of("[]", 0), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(error_of(" {}", 0), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(error_of("{} x", 0), HasSubstr("x.st: header:1:4: syntax error"));
  EXPECT_EQ(error_of(R"({"w": 3})", 0), "x.st: tensor \"w\": is 3; it must be an object");
  EXPECT_THAT(error_of("{\"\xff\": {}}", 0), HasSubstr("x.st: header:1:3: "));
  EXPECT_THAT(error_of(std::string("{}\0\0", 4), 0), HasSubstr("zero byte"));
  EXPECT_THAT(error_of(R"({"w": )" + std::string(100'000, '['), 0), HasSubstr("nested deeper"));
  EXPECT_NO_THROW((void)parse(file_of("{} \n\t\r ", 0, 7)));  // padding
}

TEST(SafetensorsHostile, Metadata) {
  EXPECT_EQ(error_of(R"({"__metadata__": []})", 0), "x.st: __metadata__: is an array; it must be an object");
  EXPECT_EQ(error_of(R"({"__metadata__": {"a": 1}})", 0), "x.st: __metadata__: a: is 1; it must be a string");
}

TEST(SafetensorsHostile, DuplicateNames) {
  EXPECT_THAT(error_of(R"({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                           "w": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}})",
                       2),
              HasSubstr("duplicate key \"w\""));
  EXPECT_THAT(error_of(R"({"__metadata__": {}, "__metadata__": {}})", 0), HasSubstr("duplicate key"));
}

TEST(SafetensorsHostile, Fields) {
  EXPECT_EQ(tensor_error_of(R"("shape": [], "data_offsets": [0, 1])", 1),
            "x.st: tensor \"w\": dtype: is missing");
  EXPECT_EQ(tensor_error_of(R"("dtype": "F31", "shape": [], "data_offsets": [0, 1])", 1),
            "x.st: tensor \"w\": dtype: is \"F31\", which is not known");
  EXPECT_EQ(tensor_error_of(R"("dtype": "U8", "shape": 1, "data_offsets": [0, 1])", 1),
            "x.st: tensor \"w\": shape: is 1; it must be an array");
  EXPECT_EQ(tensor_error_of(R"("dtype": "U8", "shape": [1], "data_offsets": [0, 1], "extra": 1)", 1),
            "x.st: tensor \"w\": extra: unknown key; known here: dtype, shape, data_offsets");
  EXPECT_EQ(tensor_error_of(R"("dtype": "U8", "shape": [1], "data_offsets": [0, 1, 1])", 1),
            "x.st: tensor \"w\": data_offsets: has 3 numbers; it must have 2");
  EXPECT_EQ(tensor_error_of(R"("dtype": "U8", "shape": [1], "data_offsets": [])", 1),
            "x.st: tensor \"w\": data_offsets: has 0 numbers; it must have 2");
}

TEST(SafetensorsHostile, Shapes) {
  const auto error_with_shape = [](std::string_view shape) {
    return tensor_error_of(fmt::format(R"("dtype": "F32", "shape": {}, "data_offsets": [0, 4])", shape), 4);
  };
  EXPECT_EQ(error_with_shape("[1, -3]"), "x.st: tensor \"w\": shape[1]: is -3; it must be at least 0");
  EXPECT_EQ(error_with_shape("[-1, -1]"), "x.st: tensor \"w\": shape[0]: is -1; it must be at least 0");
  EXPECT_EQ(error_with_shape("[1.0]"), "x.st: tensor \"w\": shape[0]: is 1.0; it must be an integer");
  EXPECT_EQ(error_with_shape("[1e300]"), "x.st: tensor \"w\": shape[0]: is 1e+300; it must be an integer");
  EXPECT_THAT(error_with_shape("[1e400]"), HasSubstr("number overflow"));
  EXPECT_THAT(error_with_shape("[9223372036854775808]"),
              HasSubstr("shape[0]: is 9223372036854775808; it must be"));
  EXPECT_THAT(error_with_shape("[18446744073709551617]"), HasSubstr("it must be an integer"));
  EXPECT_THAT(error_with_shape("[9223372036854775807]"), HasSubstr("more elements than fit"));
  EXPECT_THAT(error_with_shape("[2305843009213693952]"),
              HasSubstr("more elements than fit"));  // 2^61 * 4 = 2^63
  // Each product wraps to a size that would fit: 2^64 + 1 elements, and 2^32 * 2^32.
  EXPECT_THAT(error_with_shape("[274177, 67280421310721]"), HasSubstr("more elements than fit"));
  EXPECT_THAT(error_with_shape("[4294967296, 4294967296, 1]"), HasSubstr("more elements than fit"));
  EXPECT_THAT(error_with_shape("[4611686018427387904, 4611686018427387904, 0]"),
              HasSubstr("more elements than fit"));
  EXPECT_EQ(error_with_shape("[2]"),
            "x.st: tensor \"w\": data_offsets: holds 4 bytes; 2 elements of F32 need 8");
  EXPECT_EQ(error_with_shape("[0]"),
            "x.st: tensor \"w\": data_offsets: holds 4 bytes; 0 elements of F32 need 0");
}

TEST(SafetensorsHostile, Offsets) {
  const auto error_with_offsets = [](std::string_view offsets) {
    return tensor_error_of(fmt::format(R"("dtype": "U8", "shape": [4], "data_offsets": {})", offsets), 4);
  };
  EXPECT_EQ(error_with_offsets("[4, 0]"),
            "x.st: tensor \"w\": data_offsets: is [4, 0]; the end lies before the beginning");
  EXPECT_EQ(error_with_offsets("[1, 5]"),
            "x.st: tensor \"w\": data_offsets: is [1, 5], but the file has 4 bytes of data");
  EXPECT_EQ(error_with_offsets("[-4, 0]"),
            "x.st: tensor \"w\": data_offsets[0]: is -4; it must be at least 0");
  EXPECT_THAT(error_with_offsets("[9223372036854775804, 9223372036854775807]"), HasSubstr("4 bytes of data"));
  EXPECT_THAT(error_with_offsets("[0, 18446744073709551615]"),
              HasSubstr("data_offsets[1]: is 18446744073709551615"));
  EXPECT_THAT(error_with_offsets("[0.0, 4.0]"), HasSubstr("must be an integer"));
}

TEST(SafetensorsHostile, OverlapsAndHoles) {
  const auto error_with_two = [](std::string_view first, std::string_view second,
                                 std::size_t num_data_bytes) {
    return error_of(fmt::format(R"({{"a": {{"dtype": "U8", "shape": [2], "data_offsets": {}}},
                                     "b": {{"dtype": "U8", "shape": [2], "data_offsets": {}}}}})",
                                first, second),
                    num_data_bytes);
  };
  EXPECT_EQ(error_with_two("[0, 2]", "[1, 3]", 3),
            "x.st: tensor \"b\" begins at byte 1 of the data, inside another tensor that ends at 2");
  EXPECT_THAT(error_with_two("[0, 2]", "[0, 2]", 2), HasSubstr("inside another tensor"));
  EXPECT_EQ(error_with_two("[0, 2]", "[3, 5]", 5),
            "x.st: bytes 2 to 3 of the data, before tensor \"b\", belong to no tensor");
  EXPECT_THAT(error_with_two("[3, 5]", "[1, 3]", 5),
              HasSubstr("bytes 0 to 1 of the data, before tensor \"b\""));
  EXPECT_EQ(error_with_two("[2, 4]", "[0, 2]", 5),
            "x.st: the tensors end at byte 4 of the data, which has 5");
  EXPECT_EQ(error_of("{}", 1), "x.st: the tensors end at byte 0 of the data, which has 1");
}

const std::string& small_file() {
  static const std::string file = [] {
    const std::string header =
        R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
        R"("b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}})";
    return file_of(header, 9, header.size());
  }();
  return file;
}

TEST(SafetensorsHostile, EveryTruncationIsRefused) {
  ASSERT_EQ(parse(small_file()).tensors.size(), 2U);
  const TemporaryDirectory directory;
  for (std::size_t size = 0; size < small_file().size(); ++size) {
    EXPECT_THROW((void)parse(small_file().substr(0, size)), InputError) << size;
    std::ofstream(directory / "x.st", std::ios::binary) << small_file().substr(0, size);
    EXPECT_THROW(SafetensorsFile file(directory / "x.st"), InputError) << size;
  }
}

// Any other exception, or a fault under the sanitizers, fails; a file that is still valid is fine.
TEST(SafetensorsHostile, EveryChangedHeaderByteIsHandled) {
  const std::size_t header_end = small_file().size() - 9;
  int num_refused = 0;
  for (std::size_t position = 0; position < header_end; ++position) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string file = small_file();
      file[position] = static_cast<char>(byte);
      try {
        for (const SafetensorsTensor& tensor : parse(file).tensors) {
          ASSERT_GE(tensor.bytes.data(), reinterpret_cast<const std::byte*>(file.data()));
          ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(),
                    reinterpret_cast<const std::byte*>(file.data() + file.size()));
        }
      } catch (const InputError& error) {
        ASSERT_TRUE(std::string_view(error.what()).starts_with("x.st: ")) << error.what();
        ++num_refused;
      }
    }
  }
  EXPECT_GT(num_refused, static_cast<int>(header_end) * 200);
}

}  // namespace
}  // namespace flex
