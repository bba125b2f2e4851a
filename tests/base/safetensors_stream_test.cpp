#include "base/safetensors_stream.h"

#include "base/read_file.h"
#include "base/safetensors_writer.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

// The same bytes as from the writer that has all tensors at once, however they are cut.
TEST(SafetensorsStream, WritesWhatTheWriterWrites) {
  const TemporaryDirectory directory;
  const std::vector<float> first = {1, 2, 3, 4, 5, 6};
  const std::vector<float> second = {7};
  using Extents = std::vector<std::int64_t>;
  SafetensorsWriter writer;
  writer.add<float>("a", Extents{2, 3}, first);
  writer.add<float>("b", Extents{}, second);
  writer.set_metadata("key", "value");
  writer.write(directory / "at_once");
  SafetensorsStream stream(directory / "by_tensor",
                           {{"a", SafetensorsDType::kF32, {2, 3}}, {"b", SafetensorsDType::kF32, {}}},
                           {{"key", "value"}});
  stream.write(std::as_bytes(std::span(first)).first(10));
  stream.write(std::as_bytes(std::span(first)).subspan(10));
  EXPECT_FALSE(std::filesystem::exists(directory / "by_tensor"));
  stream.write(std::as_bytes(std::span(second)));
  stream.commit();
  EXPECT_EQ(read_file(directory / "by_tensor", 1000), read_file(directory / "at_once", 1000));
}

TEST(SafetensorsStream, RefusesWhatTheHeaderDoesNotSay) {
  const TemporaryDirectory directory;
  const auto path = directory / "x";
  EXPECT_EQ(
      message_of<InputError>([&] {
        SafetensorsStream(path, {{"a", SafetensorsDType::kF32, {1}}, {"a", SafetensorsDType::kF32, {1}}});
      }),
      "tensor \"a\": added twice");
  EXPECT_EQ(message_of<InputError>([&] {
              SafetensorsStream(path, {{"a", SafetensorsDType::kF32, {-1}}});
            }),
            "tensor \"a\": the shape is negative or has more elements than fit any file");
  EXPECT_EQ(message_of<InputError>([&] {
              SafetensorsStream(path, {{"__metadata__", SafetensorsDType::kU8, {1}}});
            }),
            "tensor \"__metadata__\": the name is reserved");
  EXPECT_EQ(message_of<Error>([&] {
              SafetensorsStream stream(path, {{"a", SafetensorsDType::kF32, {2}}});
              stream.write(std::vector<std::byte>(4));
              stream.commit();
            }),
            path.string() + ": 4 bytes of tensors were written; the header says 8");
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

}  // namespace
}  // namespace flex
