#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/safetensors_writer.h"
#include "models/checkpoint/convert_parameters.h"
#include "models/checkpoint/load_parameters.h"
#include "models/checkpoint/training_checkpoint.h"
#include "models/image_classifier.h"
#include "models/reference_batches.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/training_runs.h"

/// Parameters under published names: loaded, converted, refused.
namespace flex::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

/// A reference file's parameters as a published file would have them: its names without `init.`, and the
/// logits that they must give.
class Published {
 public:
  explicit Published(const std::string& name)
      : file_(std::string(FLEX_SOURCE_DIR "/tests/golden/") + name),
        reference_(read_reference_model(file_)) {}

  [[nodiscard]] const ReferenceModel& reference() const { return reference_; }
  [[nodiscard]] const ModelConfig& model() const { return reference_.model; }

  // `change(name, tensor)` may rename, or leave out by an empty name.
  template <class Change>
  void write(const fs::path& path, const Change& change) const {
    SafetensorsWriter writer;
    for (const SafetensorsTensor* tensor : reference_.parameters) {
      SafetensorsTensor copy = *tensor;
      const std::string name = change(tensor->name.substr(std::string_view("init.").size()), copy);
      if (!name.empty()) writer.add(name, copy.dtype, copy.shape, copy.bytes);
    }
    writer.write(path);
  }
  void write(const fs::path& path) const {
    write(path, [](const std::string& name, SafetensorsTensor&) { return name; });
  }

 private:
  SafetensorsFile file_;
  ReferenceModel reference_;
};

// Logits of the reference's first batch on `world` ranks, from a file; what the classifier was made with is
// another seed's.
std::vector<double> logits_of(const fs::path& path, const ReferenceModel& reference, int world = 1) {
  TrainingConfig training = reference.training;
  training.seed = 99;
  ModelConfig model = reference.model;
  model.moe.training.capacity_factor = 0;  // so that ranks drop nothing that one rank would not
  model.moe.inference.capacity_factor = 0;
  std::vector<std::vector<double>> logits(static_cast<std::size_t>(world));
  run_ranks({world, 1}, std::chrono::seconds(60), [&](Communicator& communicator) {
    RankContext context(communicator, Device::cpu());
    ImageClassifier classifier(model, training, {}, context);
    load_parameters(path, classifier.model(), context);
    const ReferenceBatches batches(reference, DType::kF32, world, communicator.rank());
    const ConstTensorView own = classifier.infer_blocking(batches.at(0).images);
    auto& values = logits[static_cast<std::size_t>(communicator.rank())];
    for (std::int64_t i = 0; i < own.num_elements(); ++i) values.push_back(host_element(own, i));
  });
  std::vector<double> all;
  for (const auto& part : logits) all.insert(all.end(), part.begin(), part.end());
  return all;
}

class RoundTrip : public ::testing::TestWithParam<const char*> {};

// Every convention, single and sharded over fewer, as many and more ranks than the four experts: the same
// logits to the bit.
TEST_P(RoundTrip, KeepsTheLogits) {
  const Published published(GetParam());
  const TemporaryDirectory directory;
  const fs::path original = directory / "original.safetensors";
  published.write(original);
  const std::vector<double> expected = logits_of(original, published.reference());
  EXPECT_EQ(expected.size(), static_cast<std::size_t>(published.reference().training.batch_size * 10));
  const bool has_experts = !published.model().moe.blocks.empty();
  for (const char* convention : {"timm", "swin_moe", "flex"}) {
    for (const int ranks : {0, 1, 2, 4, 8, 64}) {
      if (ranks > 0 && !has_experts) continue;
      const fs::path there = directory / (std::string(convention) + std::to_string(ranks) + ".safetensors");
      const auto written =
          convert_parameters(ParameterFiles(original), there, *parse_name_convention(convention), ranks);
      EXPECT_EQ(written.size(), static_cast<std::size_t>(ranks) + 1);
      EXPECT_EQ(ParameterFiles(there).num_rank_files(), ranks);
      EXPECT_EQ(logits_of(there, published.reference()), expected) << convention << " " << ranks;
      const fs::path back = directory / "back.safetensors";
      convert_parameters(ParameterFiles(there), back, NameConvention::kFlex);
      const SafetensorsFile one(original);
      const SafetensorsFile other(back);
      ASSERT_EQ(one.tensors().size(), other.tensors().size());
      for (const SafetensorsTensor& tensor : one.tensors()) {
        EXPECT_EQ(other.at(tensor.name).shape, tensor.shape) << tensor.name;
        EXPECT_EQ(other.at(tensor.name).values<float>(), tensor.values<float>()) << tensor.name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, RoundTrip,
                         ::testing::Values("swinv2_micro.safetensors", "swinv2_moe_micro.safetensors",
                                           "swin_moe_released_micro.safetensors"));

TEST(ParameterFiles, LoadOnAnyNumberOfRanks) {
  const Published published("swin_moe_released_micro.safetensors");
  const TemporaryDirectory directory;
  published.write(directory / "original.safetensors");
  convert_parameters(ParameterFiles(directory / "original.safetensors"), directory / "sharded.safetensors",
                     NameConvention::kSwinMoe, 2);
  const std::vector<double> expected = logits_of(directory / "original.safetensors", published.reference());
  for (const int world : {2, 4, 8}) {
    const std::vector<double> logits =
        logits_of(directory / "sharded.safetensors", published.reference(), world);
    ASSERT_EQ(logits.size(), expected.size());
    // Products of other sizes sum in another order.
    for (std::size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(logits[i], expected[i], 1e-5);
  }
}

// A trained model as a checkpoint, a released file, sharded, and a checkpoint again.
TEST(ParameterFiles, OfACheckpointAreItsModel) {
  const Published published("swinv2_moe_micro.safetensors");
  const TemporaryDirectory directory;
  published.write(directory / "original.safetensors");
  run_ranks({2, 1}, std::chrono::seconds(60), [&](Communicator& communicator) {
    RankContext context(communicator, Device::cpu());
    TrainingConfig training = published.reference().training;
    training.average_decay = 0.5;
    Trainer trainer(published.model(), training, {}, context);
    load_parameters(directory / "original.safetensors", trainer);
    const std::string name = "layers.2.blocks.1.mlp.moe.experts.batched_fc1_w";
    EXPECT_EQ(host_element(trainer.optimizer().average(name), 0),
              host_element(trainer.model().parameters().at(name).value, 0));
    save_checkpoint(directory.path(), trainer);
  });
  const fs::path checkpoint = directory / "step_00000000";
  EXPECT_EQ(ParameterFiles(checkpoint).model(), published.model());
  EXPECT_EQ(logits_of(checkpoint, published.reference()),
            logits_of(directory / "original.safetensors", published.reference()));
}

// As published: head without fc, mergings one stage earlier, buffers of windows and Tutel's old gate and
// biases.
TEST(ParameterFiles, ReadNamesAsVersionsMixThem) {
  const Published published("swinv2_moe_micro.safetensors");
  const TemporaryDirectory directory;
  published.write(directory / "original.safetensors");
  SafetensorsWriter writer;
  const SafetensorsFile file(directory / "original.safetensors");
  for (const SafetensorsTensor& tensor : file.tensors()) {
    std::string name = tensor.name;
    std::vector<std::int64_t> shape = tensor.shape;
    if (name.starts_with("head.fc.")) name.erase(5, 3);
    for (const char stage : {'1', '2', '3'}) {
      const std::string prefix = std::string("layers.") + stage + ".downsample";
      if (name.starts_with(prefix)) {
        --name[7];
        break;
      }
    }
    if (const auto gate = name.find("gates.0."); gate != std::string::npos) name.replace(gate, 8, "gate.");
    if (name.ends_with("_bias") && name.find("batched") != std::string::npos)
      shape.insert(shape.begin() + 1, 1);
    writer.add(name, tensor.dtype, shape, tensor.bytes);
  }
  const std::vector<float> table(7 * 7 * 2, std::log2(9.0F) / 3);
  const std::vector<std::int64_t> index(16 * 16);
  const std::vector<float> mask(16 * 16 * 16);
  for (const char* stage : {"0", "1", "2"})
    writer.add<float>(std::string("layers.") + stage + ".blocks.0.attn.relative_coords_table",
                      std::vector<std::int64_t>{1, 7, 7, 2}, table);
  writer.add<std::int64_t>("layers.0.blocks.0.attn.relative_position_index",
                           std::vector<std::int64_t>{16, 16}, index);
  writer.add<float>("layers.0.blocks.1.attn_mask", std::vector<std::int64_t>{16, 16, 16}, mask);
  writer.write(directory / "mixed.safetensors");
  EXPECT_EQ(logits_of(directory / "mixed.safetensors", published.reference()),
            logits_of(directory / "original.safetensors", published.reference()));
}

// Two experts over eight ranks: four share an expert's four hidden rows, and its bias of six columns in
// slices of two, of which the fourth is padding.
TEST(ParameterFiles, CutThePaddingOffSlices) {
  const TemporaryDirectory directory;
  const std::string layer = "layers.0.blocks.0.mlp._moe_layer.";
  const auto counted = [](std::size_t count) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i + 1);
    return values;
  };
  const std::vector<float> gate = counted(12);
  const std::vector<float> weights = counted(48);
  const std::vector<float> bias = counted(12);
  SafetensorsWriter writer;
  using Extents = std::vector<std::int64_t>;
  writer.add<float>(layer + "gates.0.wg.weight", Extents{2, 6}, gate);
  writer.add<float>(layer + "experts.batched_fc2_w", Extents{2, 4, 6}, weights);
  writer.add<float>(layer + "experts.batched_fc2_bias", Extents{2, 6}, bias);
  writer.write(directory / "whole.safetensors");
  convert_parameters(ParameterFiles(directory / "whole.safetensors"), directory / "x.safetensors",
                     NameConvention::kSwinMoe, 8);
  const auto slice_of = [&](int rank) {
    const SafetensorsFile file(directory / ("x.rank" + std::to_string(rank) + ".safetensors"));
    EXPECT_EQ(file.at(layer + "experts.batched_fc2_w").shape, (Extents{1, 1, 6}));
    const SafetensorsTensor& slice = file.at(layer + "experts.batched_fc2_bias");
    EXPECT_EQ(slice.shape, (Extents{1, 2}));
    return slice.values<float>();
  };
  EXPECT_THAT(slice_of(2), ElementsAre(5, 6));
  EXPECT_THAT(slice_of(3), ElementsAre(0, 0));
  EXPECT_THAT(slice_of(4), ElementsAre(7, 8));
  const SafetensorsFile base(directory / "x.safetensors");
  EXPECT_THAT(base.at(layer + "_num_global_experts").values<std::int64_t>(), ElementsAre(2));
  EXPECT_EQ(base.tensors().size(), 2U);
  convert_parameters(ParameterFiles(directory / "x.safetensors"), directory / "back.safetensors",
                     NameConvention::kFlex);
  const SafetensorsFile back(directory / "back.safetensors");
  EXPECT_EQ(back.at(layer + "experts.batched_fc2_bias").shape, (Extents{2, 6}));
  EXPECT_EQ(back.at(layer + "experts.batched_fc2_bias").values<float>(), bias);
  EXPECT_EQ(back.at(layer + "experts.batched_fc2_w").shape, (Extents{2, 4, 6}));
  EXPECT_EQ(back.at(layer + "experts.batched_fc2_w").values<float>(), weights);
}

TEST(ParameterNames, FollowEachConvention) {
  const auto to_released = [](std::string_view name) { return renamed(name, kTimmNaming, kSwinMoeNaming); };
  EXPECT_EQ(to_released("head.fc.weight"), "head.weight");
  EXPECT_EQ(to_released("layers.1.downsample.norm.bias"), "layers.0.downsample.norm.bias");
  EXPECT_EQ(to_released("layers.2.blocks.1.mlp.moe.gate.wg.weight"),
            "layers.2.blocks.1.mlp._moe_layer.gates.0.wg.weight");
  EXPECT_EQ(to_released("layers.2.blocks.1.mlp.fc1.weight"), "layers.2.blocks.1.mlp.fc1.weight");
  EXPECT_EQ(renamed("layers.2.downsample.reduction.weight", kSwinMoeNaming, kTimmNaming),
            "layers.3.downsample.reduction.weight");
  EXPECT_TRUE(is_buffer("layers.3.blocks.1.attn_mask"));
  EXPECT_FALSE(is_buffer("layers.3.blocks.1.attn.proj.bias"));
}

// What loading says; the model must stay as it was.
std::string refusal(const fs::path& path, const ModelConfig& model, const LoadOptions& options = {}) {
  std::string text;
  run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& communicator) {
    RankContext context(communicator, Device::cpu());
    SwinV2Moe classifier(model, {.batch = 1, .trains = false, .seed = 5}, context);
    const auto first_elements = [&] {
      std::vector<double> values;
      for (const ModelParameter& parameter : classifier.parameters().all())
        values.push_back(host_element(parameter.value, 0));
      return values;
    };
    const std::vector<double> before = first_elements();
    text = message_of<InputError>([&] { load_parameters(path, classifier, context, options); });
    EXPECT_EQ(first_elements(), before);
  });
  return text;
}

TEST(LoadParameters, NamesAllThatDoesNotFit) {
  const Published published("swinv2_micro.safetensors");
  const TemporaryDirectory directory;
  const fs::path path = directory / "x.safetensors";
  const std::string begin = path.string() + ": does not fit the model \"swinv2\": ";
  const auto refused_with = [&](const auto& change) {
    published.write(path, change);
    return refusal(path, published.model());
  };
  EXPECT_EQ(refused_with([](const std::string& name, SafetensorsTensor&) {
              return name == "norm.bias" ? std::string() : name;
            }),
            begin + "1 tensors are missing (norm.bias)");
  EXPECT_EQ(refused_with([](const std::string& name, SafetensorsTensor&) {
              return name.starts_with("layers.0.blocks.0.norm") ? "old." + name : name;
            }),
            begin +
                "4 tensors are missing (layers.0.blocks.0.norm1.weight, layers.0.blocks.0.norm1.bias, "
                "layers.0.blocks.0.norm2.weight and 1 more); 4 are not the model's "
                "(old.layers.0.blocks.0.norm1.bias, old.layers.0.blocks.0.norm1.weight, "
                "old.layers.0.blocks.0.norm2.bias and 1 more)");
  EXPECT_EQ(
      refused_with([](const std::string& name, SafetensorsTensor& tensor) {
        if (name == "layers.0.blocks.0.mlp.fc1.weight") std::swap(tensor.shape[0], tensor.shape[1]);
        if (name == "norm.bias") {
          tensor.dtype = SafetensorsDType::kU32;
        }
        return name;
      }),
      begin +
          "2 have another shape or type (layers.0.blocks.0.mlp.fc1.weight is [16, 64], expected [64, 16], "
          "norm.bias holds U32)");
}

TEST(LoadParameters, RefuseAnotherModel) {
  const Published released("swin_moe_released_micro.safetensors");
  const Published dense("swinv2_micro.safetensors");
  const TemporaryDirectory directory;
  released.write(directory / "x.safetensors");
  EXPECT_THAT(refusal(directory / "x.safetensors", dense.model()),
              HasSubstr("does not fit the model \"swinv2\": it is a swin_moe model, expected swinv2; "));
}

TEST(LoadParameters, RefuseWhatIsNoFile) {
  const Published dense("swinv2_micro.safetensors");
  const TemporaryDirectory directory;
  const fs::path path = directory / "model.pth";
  std::ofstream(path) << "PK\x03\x04 and so on";
  EXPECT_EQ(
      refusal(path, dense.model()),
      path.string() +
          ": is a PyTorch file, which is not read; convert it in Python: "
          "safetensors.torch.save_file(torch.load(FILE, map_location='cpu')['model'], 'NAME.safetensors')");
}

TEST(LoadParameters, NameAMissingRank) {
  const Published released("swin_moe_released_micro.safetensors");
  const TemporaryDirectory directory;
  released.write(directory / "original.safetensors");
  const fs::path sharded = directory / "x.safetensors";
  convert_parameters(ParameterFiles(directory / "original.safetensors"), sharded, NameConvention::kSwinMoe,
                     4);
  fs::remove(directory / "x.rank2.safetensors");
  EXPECT_EQ(refusal(sharded, released.model()),
            (directory / "x.rank2.safetensors").string() + ": is missing; there are files of 4 ranks");
  fs::remove(directory / "x.rank3.safetensors");
  EXPECT_THAT(refusal(sharded, released.model()),
              HasSubstr("batched_fc1_w is [4, 128, 64], expected [4, 256, 64]"));
}

TEST(LoadParameters, KeepAHeadOfOtherClasses) {
  const Published published("swinv2_micro.safetensors");
  const TemporaryDirectory directory;
  const fs::path path = directory / "x.safetensors";
  published.write(path);
  ModelConfig model = published.model();
  model.num_classes = 3;
  EXPECT_THAT(refusal(path, model), HasSubstr("head.fc.weight is [10, 128], expected [3, 128]"));
  run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& communicator) {
    RankContext context(communicator, Device::cpu());
    SwinV2Moe classifier(model, {.batch = 1, .trains = false, .seed = 5}, context);
    const ModelParameter& head = classifier.parameters().at("head.fc.weight");
    const double before = host_element(head.value, 7);
    const LoadedParameters loaded = load_parameters(path, classifier, context, {.keeps_head = true});
    EXPECT_THAT(loaded.kept, ElementsAre("head.fc.weight", "head.fc.bias"));
    EXPECT_EQ(loaded.num_loaded, std::ssize(published.reference().parameters) - 2);
    EXPECT_EQ(host_element(head.value, 7), before);
  });
}

// A window of 8 where 4 was trained with (2 in the last stage, whose map is 2 x 2): known from the buffer of
// coordinates, whose last value is log2(8 (w - 1) / (p - 1) + 1) / 3.
TEST(LoadParameters, WantThePositionsThatWereTrainedWith) {
  const Published published("swinv2_micro.safetensors");
  const TemporaryDirectory directory;
  const fs::path path = directory / "x.safetensors";
  published.write(directory / "original.safetensors");
  SafetensorsWriter writer;
  const SafetensorsFile file(directory / "original.safetensors");
  for (const SafetensorsTensor& tensor : file.tensors())
    writer.add(tensor.name, tensor.dtype, tensor.shape, tensor.bytes);
  std::vector<std::vector<float>> tables;
  for (const std::int64_t window : {4, 4, 4, 2}) {
    const std::int64_t side = 2 * window - 1;
    tables.emplace_back(static_cast<std::size_t>(side * side * 2), std::log2(9.0F) / 3);
  }
  for (std::size_t stage = 0; stage < tables.size(); ++stage) {
    const std::int64_t side = stage == 3 ? 3 : 7;
    writer.add<float>("layers." + std::to_string(stage) + ".blocks.0.attn.relative_coords_table",
                      std::vector<std::int64_t>{1, side, side, 2}, tables[stage]);
  }
  writer.write(path);
  ModelConfig model = published.model();
  model.image_size = 128;
  model.window_size = 8;
  EXPECT_EQ(refusal(path, model),
            path.string() +
                ": the position bias of stage 0 was trained with a window of 4, and the model's is of 8; set "
                "pretrained_windows to [4, 4, 4, 2]");
  const ModelConfig adapted = with_position_windows(model, ParameterFiles(path));
  EXPECT_THAT(adapted.pretrained_windows, ElementsAre(4, 4, 4, 2));
  run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& communicator) {
    RankContext context(communicator, Device::cpu());
    SwinV2Moe classifier(adapted, {.batch = 1, .trains = false}, context);
    EXPECT_EQ(load_parameters(path, classifier, context).num_loaded,
              std::ssize(published.reference().parameters));
  });
}

TEST(ConvertParameters, RefuseWhatCannotBe) {
  const Published released("swin_moe_released_micro.safetensors");
  const Published dense("swinv2_micro.safetensors");
  const TemporaryDirectory directory;
  const fs::path path = directory / "x.safetensors";
  const fs::path out = directory / "y.safetensors";
  released.write(path);
  EXPECT_EQ(message_of<InputError>(
                [&] { convert_parameters(ParameterFiles(path), out, NameConvention::kSwinMoe, 3); }),
            "4 experts do not spread over 3 ranks: one must be a multiple of the other");
  dense.write(path);
  EXPECT_EQ(message_of<InputError>(
                [&] { convert_parameters(ParameterFiles(path), out, NameConvention::kSwinMoe, 2); }),
            path.string() + ": has no experts to spread over ranks");
  SafetensorsWriter().write(path);
  EXPECT_EQ(
      message_of<InputError>([&] { convert_parameters(ParameterFiles(path), out, NameConvention::kTimm); }),
      path.string() + ": holds no Swin model: there is no layers.0.blocks.0");
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace flex::testing
