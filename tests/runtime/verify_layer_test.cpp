#include "runtime/verify_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/json.h"
#include "base/safetensors.h"
#include "base/safetensors_writer.h"
#include "runtime/layer_file.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

using ::testing::HasSubstr;

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(FLEX_SOURCE_DIR) / "tests/golden" / name;
}

// A copy of the layer cases in which the tests change something.
class ChangedFile {
 public:
  ChangedFile() : original_(golden("moe_layer.safetensors")), metadata_(original_.metadata()) {
    for (const SafetensorsTensor& tensor : original_.tensors())
      bytes_[tensor.name] = {tensor.bytes.begin(), tensor.bytes.end()};
  }
  std::vector<std::byte>& bytes(const std::string& name) { return bytes_.at(name); }
  std::map<std::string, std::string>& metadata() { return metadata_; }
  void add(const std::string& name) { extra_.push_back(name); }

  std::string write() {
    SafetensorsWriter writer;
    for (const SafetensorsTensor& tensor : original_.tensors()) {
      writer.add(tensor.name, tensor.dtype, tensor.shape, bytes_.at(tensor.name));
    }
    for (const std::string& name : extra_) writer.add<float>(name, std::vector<std::int64_t>{1}, one_);
    for (const auto& [key, text] : metadata_) writer.set_metadata(key, text);
    const auto path = directory_.path() / "changed.safetensors";
    writer.write(path);
    return path.string();
  }

 private:
  SafetensorsFile original_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::vector<std::byte>> bytes_;
  std::vector<std::string> extra_;
  std::vector<float> one_ = {1.0F};
  TemporaryDirectory directory_;
};

const VerifiedCase& find(const std::vector<VerifiedCase>& cases, const std::string& name) {
  return *std::ranges::find(cases, name, &VerifiedCase::name);
}

TEST(VerifyLayer, AllLayerCasesPass) {
  const std::vector<VerifiedCase> cases = verify_layer_file(golden("moe_layer.safetensors"), Device::cpu());
  EXPECT_EQ(cases.size(), 16);
  for (const VerifiedCase& one : cases) {
    EXPECT_TRUE(one.uncompared.empty()) << one.name;
    // capacity, y, dx, l_aux, scores, indices, locations, gates, and at least a gate's and four experts'
    // gradients
    EXPECT_GE(one.outputs.size(), 13) << one.name;
    for (const VerifiedOutput& output : one.outputs) {
      EXPECT_TRUE(output.passed()) << one.name << "/" << output.name << ": " << output.error;
    }
  }
}

TEST(VerifyLayer, TrainingCurvesFollowTheReference) {
  for (const char* name : {"moe_train_top1_aux.safetensors", "moe_train_top2.safetensors"}) {
    const std::vector<VerifiedCase> cases = verify_layer_file(golden(name), Device::cpu());
    ASSERT_EQ(cases.size(), 1);
    ASSERT_EQ(cases[0].outputs.size(), 2);
    EXPECT_TRUE(cases[0].passed()) << name << ": " << cases[0].worst()->error;
  }
}

TEST(VerifyLayer, ChangedOutputFailsItsCaseAlone) {
  for (const char* output :
       {"y", "dx", "scores", "gates", "l_aux", "grad.gate.wg.weight", "grad.experts.batched_fc2_bias"}) {
    ChangedFile file;
    std::vector<std::byte>& bytes = file.bytes(std::string("top2_cf1/") + output);
    float value = 0;
    std::memcpy(&value, bytes.data(), sizeof(value));
    value += 1.0F;
    std::memcpy(bytes.data(), &value, sizeof(value));
    const auto cases = verify_layer_file(file.write(), Device::cpu());
    EXPECT_FALSE(find(cases, "top2_cf1").passed()) << output;
    EXPECT_TRUE(find(cases, "top2_bpr").passed()) << output;
  }
}

TEST(VerifyLayer, ChangedIndexFails) {
  for (const char* output : {"indices", "locations"}) {
    ChangedFile file;
    auto& bytes = file.bytes(std::string("top2_cf1/") + output);
    bytes[0] ^= std::byte{1};
    EXPECT_FALSE(find(verify_layer_file(file.write(), Device::cpu()), "top2_cf1").passed()) << output;
  }
}

TEST(VerifyLayer, OutputThatIsNotComparedFails) {
  ChangedFile file;
  file.add("top2_cf1/entropy");
  file.add("top2_cf1/grad.gate.bias");
  const auto cases = verify_layer_file(file.write(), Device::cpu());
  EXPECT_FALSE(find(cases, "top2_cf1").passed());
  EXPECT_THAT(find(cases, "top2_cf1").uncompared,
              ::testing::UnorderedElementsAre("entropy", "grad.gate.bias"));
}

TEST(VerifyLayer, RefusesWhatItCannotRun) {
  const auto message = [](ChangedFile& file) -> std::string {
    try {
      static_cast<void>(verify_layer_file(file.write(), Device::cpu()));
    } catch (const InputError& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto with = [&](const std::string& from, const std::string& to) {
    ChangedFile file;
    std::string& text = file.metadata().at("top2_cf1");
    text.replace(text.find(from), from.size(), to);
    return message(file);
  };
  EXPECT_THAT(with("\"top_k\": 2", "\"top_k\": 5"),
              HasSubstr("top_k is 5; with 4 experts it is from 1 to 4"));
  EXPECT_THAT(with("\"top_k\"", "\"top_kk\""), HasSubstr("top_kk"));
  EXPECT_THAT(with("\"gelu\"", "\"tanh\""), HasSubstr("activation"));
  EXPECT_THAT(with("\"model_dim\": 32", "\"model_dim\": 31"),
              HasSubstr("x has shape [96, 32], expected [96, 31]"));
  EXPECT_THAT(with("{", "["), HasSubstr("metadata \"top2_cf1\""));
  ChangedFile stray;
  stray.add("nobody/y");
  EXPECT_THAT(message(stray), HasSubstr("\"nobody/y\" belongs to no case"));
  EXPECT_THROW(static_cast<void>(verify_layer_file("/nowhere/x.safetensors", Device::cpu())), FileError);
}

}  // namespace
}  // namespace flex
