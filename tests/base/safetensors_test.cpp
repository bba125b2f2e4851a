#include "base/safetensors.h"

#include <fstream>

#include "base/error.h"
#include "base/read_file.h"
#include "base/safetensors_writer.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

using Shape = std::vector<std::int64_t>;

TEST(SafetensorsDType, NamesAndTypesAgree) {
  for (int i = 0; i <= static_cast<int>(SafetensorsDType::kU64); ++i) {
    const auto dtype = static_cast<SafetensorsDType>(i);
    EXPECT_EQ(parse_safetensors_dtype(name_of(dtype)), dtype);
  }
  EXPECT_EQ(name_of(SafetensorsDType::kBF16), "BF16");
  EXPECT_EQ(element_bytes(SafetensorsDType::kBF16), 2);
  EXPECT_EQ(element_bytes(safetensors_dtype_of<double>()), 8);
  EXPECT_EQ(parse_safetensors_dtype("f32"), std::nullopt);
}

TEST(Safetensors, RoundTrips) {
  const TemporaryDirectory directory;
  const std::vector<float> weights = {1, 2, 3, 4, 5, 6};
  const std::vector<std::int64_t> steps = {-7};
  const std::vector<std::uint8_t> bytes = {1, 2, 3};
  const std::vector<double> doubles = {0.1, 0.2};
  const std::vector<std::int32_t> labels = {9};
  SafetensorsWriter writer;
  writer.add<float>("b.weights", Shape{2, 3}, weights);
  writer.add<std::uint8_t>("a.bytes", Shape{3}, bytes);
  writer.add<std::int64_t>("step", Shape{}, steps);
  writer.add<double>("doubles", Shape{1, 2, 1}, doubles);
  writer.add<std::int32_t>("labels", Shape{1}, labels);
  writer.set_metadata("format", "flex");
  writer.set_metadata("note", "first");
  writer.set_metadata("note", "line\nbreak \xc3\xa9");
  writer.write(directory / "x.safetensors");

  const SafetensorsFile file(directory / "x.safetensors");
  ASSERT_EQ(file.tensors().size(), 5U);
  EXPECT_EQ(file.tensors()[0].name, "a.bytes");
  EXPECT_EQ(file.tensors()[1].name, "b.weights");
  EXPECT_EQ(file.at("b.weights").shape, (Shape{2, 3}));
  EXPECT_EQ(file.at("b.weights").num_elements(), 6);
  EXPECT_EQ(file.at("b.weights").values<float>(), weights);
  EXPECT_EQ(file.at("a.bytes").values<std::uint8_t>(), bytes);
  EXPECT_EQ(file.at("step").shape, Shape{});
  EXPECT_EQ(file.at("step").num_elements(), 1);
  EXPECT_EQ(file.at("step").values<std::int64_t>(), steps);
  EXPECT_EQ(file.at("doubles").values<double>(), doubles);
  EXPECT_EQ(file.at("labels").values<std::int32_t>(), labels);
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"format", "flex"}, {"note", "line\nbreak \xc3\xa9"}}));
}

TEST(Safetensors, TypesWithoutKernelsAreListed) {
  const TemporaryDirectory directory;
  const std::vector<std::byte> data(6, std::byte{5});
  SafetensorsWriter writer;
  for (const auto dtype : {SafetensorsDType::kBool, SafetensorsDType::kF16, SafetensorsDType::kU16}) {
    writer.add(name_of(dtype), dtype, Shape{6 / element_bytes(dtype)}, data);
  }
  writer.write(directory / "x.safetensors");
  const SafetensorsFile file(directory / "x.safetensors");
  EXPECT_EQ(file.at("U16").dtype, SafetensorsDType::kU16);
  EXPECT_EQ(file.at("U16").num_elements(), 3);
  EXPECT_EQ(message_of<InputError>([&] { (void)file.at("F16").values<float>(); }),
            "tensor \"F16\" holds F16; expected F32");
}

TEST(Safetensors, NoTensorsAndEmptyTensors) {
  const TemporaryDirectory directory;
  SafetensorsWriter().write(directory / "none.safetensors");
  EXPECT_EQ(read_file(directory / "none.safetensors", 100), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  EXPECT_TRUE(SafetensorsFile(directory / "none.safetensors").tensors().empty());

  SafetensorsWriter writer;
  writer.add<float>("empty", Shape{4, 0, 3}, {});
  writer.add<float>("also", Shape{0}, {});
  const std::vector<float> one = {1};
  writer.add<float>("between", Shape{1}, one);
  writer.write(directory / "empty.safetensors");
  const SafetensorsFile file(directory / "empty.safetensors");
  EXPECT_EQ(file.at("empty").shape, (Shape{4, 0, 3}));
  EXPECT_EQ(file.at("empty").num_elements(), 0);
  EXPECT_EQ(file.at("empty").values<float>(), std::vector<float>{});
  EXPECT_EQ(file.at("between").values<float>(), one);
}

TEST(Safetensors, TensorsAreAligned) {
  const TemporaryDirectory directory;
  const std::vector<std::byte> data(24);
  SafetensorsWriter writer;
  writer.add("a", SafetensorsDType::kU8, Shape{3}, std::span(data).first(3));
  writer.add("z", SafetensorsDType::kF64, Shape{3}, data);
  writer.add("m", SafetensorsDType::kBF16, Shape{1}, std::span(data).first(2));
  writer.write(directory / "x.safetensors");
  const SafetensorsFile file(directory / "x.safetensors");
  for (const SafetensorsTensor& tensor : file.tensors()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % element_bytes(tensor.dtype), 0U)
        << tensor.name;
  }
}

TEST(Safetensors, EqualContentGivesEqualBytes) {
  const TemporaryDirectory directory;
  const std::vector<float> one = {1};
  const std::vector<float> two = {2};
  SafetensorsWriter forward;
  forward.add<float>("one", Shape{1}, one);
  forward.add<float>("two", Shape{1}, two);
  forward.write(directory / "forward");
  SafetensorsWriter backward;
  backward.add<float>("two", Shape{1}, two);
  backward.add<float>("one", Shape{1}, one);
  backward.write(directory / "backward");
  EXPECT_EQ(read_file(directory / "forward", 1000), read_file(directory / "backward", 1000));
}

TEST(Safetensors, AMovedFileKeepsItsTensors) {
  const TemporaryDirectory directory;
  const std::vector<float> one = {1};
  SafetensorsWriter writer;
  writer.add<float>("one", Shape{1}, one);
  writer.write(directory / "x");
  const auto open = [&] {
    SafetensorsFile file(directory / "x");
    return SafetensorsFile(std::move(file));
  };
  const SafetensorsFile file = open();
  std::filesystem::remove(directory / "x");
  EXPECT_EQ(file.at("one").values<float>(), one);
}

TEST(Safetensors, UnknownNamesGetASuggestion) {
  const TemporaryDirectory directory;
  const std::vector<float> one = {1};
  SafetensorsWriter writer;
  writer.add<float>("gate.weight", Shape{1}, one);
  writer.write(directory / "x.st");
  const SafetensorsFile file(directory / "x.st");
  EXPECT_EQ(file.find("gate.weigth"), nullptr);
  EXPECT_THAT(message_of<InputError>([&] { (void)file.at("gate.weigth"); }),
              testing::EndsWith("x.st: has no tensor \"gate.weigth\"; there is \"gate.weight\""));
  EXPECT_THAT(message_of<InputError>([&] { (void)file.at("bias"); }),
              testing::EndsWith("x.st: has no tensor \"bias\" among its 1"));
}

TEST(SafetensorsWriter, RefusesWhatCouldNotBeReadBack) {
  const std::vector<float> two = {1, 2};
  SafetensorsWriter writer;
  writer.add<float>("a", Shape{2}, two);
  EXPECT_EQ(message_of<InputError>([&] { writer.add<float>("a", Shape{2}, two); }),
            "tensor \"a\": added twice");
  EXPECT_EQ(message_of<InputError>([&] { writer.add<float>("b", Shape{3}, two); }),
            "tensor \"b\": has 8 bytes; 3 elements of F32 need 12");
  EXPECT_THROW(writer.add<float>("b", (Shape{-1, -2}), two), InputError);
  EXPECT_THROW(writer.add<float>("b", (Shape{std::int64_t{1} << 62, 2}), two), InputError);
  EXPECT_THROW(writer.add<float>("__metadata__", Shape{2}, two), InputError);
  EXPECT_THROW(writer.add<float>("\xff", Shape{2}, two), InputError);
  EXPECT_THROW(writer.set_metadata("a", "\xff"), InputError);
  EXPECT_THROW(writer.set_metadata("\xff", "a"), InputError);
}

TEST(SafetensorsFile, SystemErrorsAreFileErrors) {
  const TemporaryDirectory directory;
  EXPECT_EQ(message_of<FileError>([] { SafetensorsFile file("/no/x"); }),
            "cannot open /no/x: No such file or directory");
  EXPECT_THAT(message_of<FileError>([&] { SafetensorsFile file(directory.path()); }),
              testing::EndsWith("it is not a regular file"));
  std::ofstream(directory / "empty").flush();
  EXPECT_THAT(message_of<InputError>([&] { SafetensorsFile file(directory / "empty"); }),
              testing::EndsWith("has 0 bytes; a safetensors file begins with 8 bytes of header length"));
}

}  // namespace
}  // namespace flex
