#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "base/read_file.h"
#include "base/require.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/training_checkpoint.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/training_runs.h"

/// Training that stops and goes on from a checkpoint.
namespace flex::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

constexpr std::int64_t kSteps = 6;
constexpr std::int64_t kStop = 3;

ModelConfig micro(std::int64_t experts = 4) { return model_of(micro_model("swinv2", experts)); }

TrainingConfig training_in(DType dtype) {
  TrainingConfig training = micro_training(dtype, kSteps);
  training.average_decay = 0.9;
  training.loss_scale = 8;
  training.dynamic_loss_scale = true;
  return training;
}

// Runs `body(trainer)` on all ranks of a world of threads.
template <class Body>
void on_ranks(int world, const ModelConfig& model, const TrainingConfig& training, const Body& body) {
  run_ranks({world, 1}, std::chrono::seconds(60), [&](Communicator& communicator) {
    RankContext context(communicator, Device::cpu());
    Trainer trainer(model, training, {}, context);
    body(trainer);
  });
}

// Losses of steps [trainer's step, end).
std::vector<double> losses_until(Trainer& trainer, std::int64_t end) {
  ProceduralImages images(trainer.model().config(), trainer.training().dtype, trainer.local_batch(), 11);
  std::vector<double> losses;
  while (trainer.num_steps() < end) {
    const std::int64_t first = trainer.num_steps() * trainer.training().batch_size +
                               trainer.context().rank() * trainer.local_batch();
    losses.push_back(trainer.step_blocking(images.make(first)).loss);
  }
  return losses;
}

// Losses of all steps of an uninterrupted run, which writes a checkpoint after kStop of them.
std::vector<double> run_and_save(int world, const ModelConfig& model, const TrainingConfig& training,
                                 const fs::path& folder) {
  std::vector<double> losses;
  on_ranks(world, model, training, [&](Trainer& trainer) {
    open_branches(trainer.model());
    trainer.optimizer().adopt_parameters_blocking();
    std::vector<double> own = losses_until(trainer, kStop);
    EXPECT_EQ(save_checkpoint(folder, trainer), folder / "step_00000003");
    const std::vector<double> rest = losses_until(trainer, kSteps);
    own.insert(own.end(), rest.begin(), rest.end());
    if (trainer.context().rank() == 0) losses = own;
  });
  return losses;
}

// The rest of the losses, as a run tells them that goes on from the checkpoint.
std::vector<double> run_on(int world, const ModelConfig& model, const TrainingConfig& training,
                           const fs::path& folder) {
  std::vector<double> losses;
  on_ranks(world, model, training, [&](Trainer& trainer) {
    const auto loaded = resume_from(folder, trainer);
    ASSERT_TRUE(loaded.has_value());
    EXPECT_EQ(loaded->step, kStop);
    EXPECT_THAT(loaded->changed, IsEmpty());
    const std::vector<double> own = losses_until(trainer, kSteps);
    if (trainer.context().rank() == 0) losses = own;
  });
  return losses;
}

struct Resumed {
  DType dtype;
  const char* block;
  int world;
};
void PrintTo(const Resumed& resumed, std::ostream* out) {
  *out << fmt::format("{}_{}_{}_ranks", name(resumed.dtype), resumed.block, resumed.world);
}

class Resume : public ::testing::TestWithParam<Resumed> {};

TEST_P(Resume, HasTheBitsOfTheUninterruptedRun) {
  const auto [dtype, block, world] = GetParam();
  const ModelConfig model = model_of(micro_model(block, 4));
  const TemporaryDirectory directory;
  const std::vector<double> expected = run_and_save(world, model, training_in(dtype), directory.path());
  const std::vector<double> rest = run_on(world, model, training_in(dtype), directory.path());
  ASSERT_EQ(rest.size(), static_cast<std::size_t>(kSteps - kStop));
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), expected.begin() + kStop))
      << fmt::format("{} beside {}", fmt::join(rest, " "), fmt::join(expected, " "));
}

INSTANTIATE_TEST_SUITE_P(Worlds, Resume,
                         ::testing::Values(Resumed{DType::kF32, "swinv2", 1},
                                           Resumed{DType::kF32, "swin_moe", 4},
                                           Resumed{DType::kF64, "swin_moe", 2},
                                           Resumed{DType::kF64, "swinv2", 8}));

// Four ranks wrote it. With two experts ranks hold halves and quarters of them; what is not a multiple of the
// ranks is padded.
TEST(Resume, GoesOnWithAnyNumberOfRanks) {
  constexpr double kTolerance = 1e-10;  // as in rank_equality_test.cpp
  for (const std::int64_t experts : {2, 8}) {
    const TemporaryDirectory directory;
    const TrainingConfig training = training_in(DType::kF64);
    const std::vector<double> expected = run_and_save(4, micro(experts), training, directory.path());
    for (const int world : {1, 2, 8}) {
      const std::vector<double> rest = run_on(world, micro(experts), training, directory.path());
      ASSERT_EQ(rest.size(), static_cast<std::size_t>(kSteps - kStop));
      for (std::size_t i = 0; i < rest.size(); ++i)
        EXPECT_NEAR(rest[i], expected[kStop + i], kTolerance * expected[kStop + i]) << world << " ranks";
    }
  }
}

// What any number of ranks writes has the same bytes, but for the number of them.
TEST(Checkpoint, HoldsTheSameWhoeverWritesIt) {
  const TemporaryDirectory directory;
  std::vector<CheckpointManifest> manifests;
  for (const int world : {1, 2, 8}) {
    const fs::path folder = directory / std::to_string(world);
    on_ranks(world, micro(2), training_in(DType::kF32),
             [&](Trainer& trainer) { save_checkpoint(folder, trainer); });
    manifests.push_back(read_manifest(folder / "step_00000000"));
    EXPECT_EQ(manifests.back().world, world);
    manifests.back().world = 1;
  }
  EXPECT_EQ(manifests[0], manifests[1]);
  EXPECT_EQ(manifests[0], manifests[2]);
}

TEST(Checkpoint, RestoresAllState) {
  const TemporaryDirectory directory;
  TrainerState state;
  std::vector<double> averages;
  const auto average_of = [](Trainer& trainer) {
    const ConstTensorView view = trainer.optimizer().average("head.fc.weight");
    std::vector<double> values;
    for (std::int64_t i = 0; i < view.num_elements(); ++i) values.push_back(host_element(view, i));
    return values;
  };
  on_ranks(1, micro(), training_in(DType::kF32), [&](Trainer& trainer) {
    losses_until(trainer, 2);
    trainer.restore_blocking({.step = 7, .updates = 5, .loss_scale = 0.25, .good_steps = 3});
    state = trainer.state_blocking();
    averages = average_of(trainer);
    save_checkpoint(directory.path(), trainer);
  });
  EXPECT_EQ(state, (TrainerState{7, 5, 0.25, 3}));
  on_ranks(1, micro(), training_in(DType::kF32), [&](Trainer& trainer) {
    EXPECT_NE(average_of(trainer), averages);
    load_checkpoint(directory / "step_00000007", trainer);
    EXPECT_EQ(trainer.state_blocking(), state);
    EXPECT_EQ(average_of(trainer), averages);
  });
}

// One checkpoint of a model that nobody trained.
void save_untrained(const fs::path& folder, std::int64_t step = 0, std::int64_t keep = 0) {
  on_ranks(1, micro(), training_in(DType::kF32), [&](Trainer& trainer) {
    trainer.restore_blocking({.step = step});
    save_checkpoint(folder, trainer, keep);
  });
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

TEST(Checkpoint, KeepsTheLastWholeOnes) {
  const TemporaryDirectory directory;
  for (const std::int64_t step : {1, 2, 3}) save_untrained(directory.path(), step, 2);
  EXPECT_THAT(names_in(directory.path()), ElementsAre("step_00000002", "step_00000003"));
  // One that is cut off does not count.
  fs::resize_file(directory / "step_00000003" / kModelFile, 1000);
  fs::create_directory(directory / ".step_00000009.0123abcd.tmp");
  std::ofstream(directory / "notes.txt") << "mine";
  save_untrained(directory.path(), 123456789, 2);
  EXPECT_THAT(names_in(directory.path()),
              ElementsAre("notes.txt", "step_00000002", "step_00000003", "step_123456789"));
  EXPECT_EQ(find_latest_checkpoint(directory.path()).path, directory / "step_123456789");
}

TEST(Checkpoint, ReplacesOneOfTheSameStep) {
  const TemporaryDirectory directory;
  save_untrained(directory.path(), 4);
  fs::resize_file(directory / "step_00000004" / kOptimizerFile, 0);
  EXPECT_FALSE(find_latest_checkpoint(directory.path()).path.has_value());
  save_untrained(directory.path(), 4);
  EXPECT_EQ(find_latest_checkpoint(directory.path()).path, directory / "step_00000004");
  EXPECT_THAT(names_in(directory.path()), ElementsAre("step_00000004"));
}

void flip_byte(const fs::path& file, std::int64_t at) {
  std::string bytes = read_file(file, std::int64_t{1} << 30);
  bytes[static_cast<std::size_t>(at < 0 ? std::ssize(bytes) + at : at)] ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
}

TEST(Checkpoint, NamesDamagedOnesAndGoesOnFromTheOneBefore) {
  const TemporaryDirectory directory;
  for (const std::int64_t step : {1, 2, 3, 4, 5}) save_untrained(directory.path(), step);
  const auto place = [&](int step, std::string_view file) {
    return directory / checkpoint_name(step) / file;
  };
  flip_byte(place(5, kModelFile), -1);
  fs::resize_file(place(4, kOptimizerFile), 77);
  fs::remove(place(3, kManifestFile));
  std::string manifest = read_file(place(2, kManifestFile), 1 << 20);
  manifest.replace(manifest.find("\"seed\": 3"), 9, "\"seed\": 4");
  std::ofstream(place(2, kManifestFile)) << manifest;
  std::vector<std::string> damaged;
  on_ranks(2, micro(), training_in(DType::kF32), [&](Trainer& trainer) {
    const auto loaded = resume_from(directory.path(), trainer);
    ASSERT_TRUE(loaded.has_value());
    EXPECT_EQ(loaded->step, 1);
    EXPECT_EQ(trainer.num_steps(), 1);
    if (trainer.context().rank() == 1) damaged = loaded->damaged;
  });
  EXPECT_THAT(
      damaged,
      ElementsAre(place(5, kModelFile).string() + ": its checksum is not the manifest's; it is damaged",
                  HasSubstr(place(4, kOptimizerFile).string() + ": has 77 bytes; the manifest says "),
                  HasSubstr("cannot open " + place(3, kManifestFile).string()),
                  place(2, kManifestFile).string() + ": its checksum is another; it is damaged"));
}

TEST(Checkpoint, AFolderWithoutOneIsTheBeginning) {
  const TemporaryDirectory directory;
  on_ranks(2, micro(), training_in(DType::kF32), [&](Trainer& trainer) {
    EXPECT_FALSE(resume_from(directory.path(), trainer).has_value());
    EXPECT_FALSE(resume_from(directory / "none", trainer).has_value());
  });
}

std::string load_error(const fs::path& path, const ModelConfig& model, const TrainingConfig& training) {
  std::string text;
  on_ranks(1, model, training, [&](Trainer& trainer) {
    const TrainerState before = trainer.state_blocking();
    text = message_of<InputError>([&] { load_checkpoint(path, trainer); });
    EXPECT_EQ(trainer.state_blocking(), before);
  });
  return text;
}

TEST(Checkpoint, RefusesAnotherModel) {
  const TemporaryDirectory directory;
  save_untrained(directory.path());
  const fs::path path = directory / "step_00000000";
  const TrainingConfig training = training_in(DType::kF32);
  ModelConfig other = micro(2);
  other.num_classes = 7;
  EXPECT_EQ(load_error(path, other, training), path.string() +
                                                   ": is of another model: num_classes was 5, is 7; "
                                                   "moe.num_experts was 4, is 2");
  EXPECT_EQ(
      load_error(path, micro(), training_in(DType::kF64)),
      path.string() + ": was trained in fp32, whose optimizer keeps fp32; training.dtype fp64 needs fp64");
  TrainingConfig without_average = training;
  without_average.average_decay = 0;
  EXPECT_THAT(load_error(path, micro(), without_average),
              HasSubstr("optimizer.safetensors: tensor average.head.fc.bias is none of this training's"));
  ModelConfig renamed = micro();
  renamed.name = "another name";
  TrainingConfig slower = training;
  slower.learning_rate = 0.5;
  on_ranks(1, renamed, slower, [&](Trainer& trainer) {
    EXPECT_THAT(load_checkpoint(path, trainer).changed, ElementsAre("learning_rate was 0.001, is 0.5"));
  });
}

TEST(Checkpoint, RefusesAManifestOfAnotherVersion) {
  const TemporaryDirectory directory;
  save_untrained(directory.path());
  const fs::path path = directory / "step_00000000" / kManifestFile;
  std::string manifest = read_file(path, 1 << 20);
  manifest.replace(manifest.find("\"format_version\": 1"), 19, "\"format_version\": 2");
  std::ofstream(path) << manifest;
  EXPECT_THAT(load_error(path.parent_path(), micro(), training_in(DType::kF32)),
              HasSubstr("manifest.json: format_version: is 2; flexmoe "));
}

// The disk is full for rank 0 alone: all ranks say so, and the checkpoint before stays.
TEST(Checkpoint, AFullDiskIsAnErrorOnAllRanks) {
  const TemporaryDirectory directory;
  save_untrained(directory.path(), 1);
  std::vector<std::string> texts(3);
  struct rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // the write fails instead
  const TrainingConfig training = [] {
    TrainingConfig config = training_in(DType::kF32);
    config.batch_size = 6;
    return config;
  }();
  on_ranks(3, micro(3), training, [&](Trainer& trainer) {
    trainer.restore_blocking({.step = 2});
    const struct rlimit small = {.rlim_cur = 100'000, .rlim_max = before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    texts[static_cast<std::size_t>(trainer.context().rank())] =
        message_of<FileError>([&] { save_checkpoint(directory.path(), trainer); });
    ::setrlimit(RLIMIT_FSIZE, &before);
  });
  static_cast<void>(std::signal(SIGXFSZ, handler));
  EXPECT_THAT(texts[0], HasSubstr("cannot write"));
  EXPECT_THAT(texts[0], HasSubstr("File too large"));
  EXPECT_EQ(texts[1], "rank 0: " + texts[0]);
  EXPECT_EQ(texts[2], texts[1]);
  EXPECT_THAT(names_in(directory.path()), ElementsAre("step_00000001"));
  EXPECT_EQ(find_latest_checkpoint(directory.path()).path, directory / "step_00000001");
}

}  // namespace
}  // namespace flex::testing
