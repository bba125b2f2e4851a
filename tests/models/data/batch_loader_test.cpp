#include "models/data/batch_loader.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Images of 8 x 8 pixels of one grey, the index, which tell in a batch which they are. Some cannot be read.
class GreySet final : public ImageSet {
 public:
  explicit GreySet(std::int64_t count, std::set<std::int64_t> corrupt = {})
      : count_(count), corrupt_(std::move(corrupt)) {}
  [[nodiscard]] std::int64_t num_images() const override { return count_; }
  [[nodiscard]] const std::vector<std::string>& class_names() const override { return class_names_; }
  [[nodiscard]] std::int32_t label(std::int64_t index) const override {
    return static_cast<std::int32_t>(index % 3);
  }
  [[nodiscard]] std::string where(std::int64_t index) const override {
    return "grey " + std::to_string(index);
  }
  void read(std::int64_t index, std::int64_t /*least_side*/, RgbImage& image) const override {
    ++num_reads_;
    if (corrupt_.contains(index)) throw InputError(where(index) + ": is corrupt");
    image = {8, 8, std::vector<std::uint8_t>(8 * 8 * 3, static_cast<std::uint8_t>(index))};
  }
  [[nodiscard]] int num_reads() const { return num_reads_; }

 private:
  std::int64_t count_;
  std::set<std::int64_t> corrupt_;
  std::vector<std::string> class_names_ = {"a", "b", "c"};
  mutable std::atomic<int> num_reads_ = 0;
};

// Without normalization a pixel is index / 255.
LoaderOptions plain_options(std::int64_t local_batch) {
  LoaderOptions options;
  options.local_batch = local_batch;
  options.image_size = 4;
  options.augment.central_share = 1;
  options.augment.normalization = {{0, 0, 0}, {1.0 / 255, 1.0 / 255, 1.0 / 255}};
  options.seed = 3;
  return options;
}

// Everything random but what would hide the index.
LoaderOptions full_options(std::int64_t local_batch) {
  LoaderOptions options = plain_options(local_batch);
  const Normalization normalization = options.augment.normalization;
  options.augment = AugmentConfig::swin();
  options.augment.normalization = normalization;
  options.augment.colour_jitter = 0.2;
  return options;
}

std::vector<float> values_of(const ConstTensorView& view) {
  return {view.as<float>(), view.as<float>() + view.num_elements()};
}

std::vector<std::int32_t> labels_of(const ImageBatch& batch) {
  return {batch.labels.as<std::int32_t>(), batch.labels.as<std::int32_t>() + batch.labels.num_elements()};
}

// The image that each row of a plain batch shows.
std::vector<int> indices_of(const ImageBatch& batch) {
  std::vector<int> indices;
  for (std::int64_t row = 0; row < batch.images.size(0); ++row)
    indices.push_back(static_cast<int>(std::lround(batch.images.slice<float>(row)[0])));
  return indices;
}

struct Copied {
  std::vector<float> images;
  std::vector<std::int32_t> labels;
  std::vector<float> targets;

  friend bool operator==(const Copied&, const Copied&) = default;
  void append(const ImageBatch& batch) {
    const std::vector<float> more_images = values_of(batch.images);
    const std::vector<std::int32_t> more_labels = labels_of(batch);
    images.insert(images.end(), more_images.begin(), more_images.end());
    labels.insert(labels.end(), more_labels.begin(), more_labels.end());
    if (!batch.targets.present()) return;
    const std::vector<float> more_targets = values_of(batch.targets);
    targets.insert(targets.end(), more_targets.begin(), more_targets.end());
  }
};

// Global batches of `steps` steps from `first` on.
std::vector<Copied> global_batches(const std::shared_ptr<const ImageSet>& images, LoaderOptions options,
                                   int world, std::int64_t first, std::int64_t steps) {
  std::vector<Copied> batches(static_cast<std::size_t>(steps));
  options.local_batch /= world;
  options.world = world;
  for (options.rank = 0; options.rank < world; ++options.rank) {
    BatchLoader loader(images, options);
    if (first > 0) loader.seek(first);
    for (Copied& batch : batches) batch.append(loader.next_blocking());
  }
  return batches;
}

TEST(BatchLoader, EveryEpochHasEveryImageOnce) {
  BatchLoader loader(std::make_shared<GreySet>(12), plain_options(4));
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::set<int> seen;
    for (int i = 0; i < 3; ++i) {
      const ImageBatch batch = loader.next_blocking();
      const std::vector<int> indices = indices_of(batch);
      seen.insert(indices.begin(), indices.end());
      for (std::size_t row = 0; row < indices.size(); ++row)
        EXPECT_EQ(labels_of(batch)[row], indices[row] % 3);
      EXPECT_FALSE(batch.targets.present());
      EXPECT_EQ(loader.num_valid(), 4);
    }
    EXPECT_EQ(seen.size(), 12U);
  }
  EXPECT_EQ(loader.step(), 9);
}

TEST(BatchLoader, BatchesRunOnIntoTheNextEpoch) {
  BatchLoader loader(std::make_shared<GreySet>(6), plain_options(4));
  std::map<int, int> counts;
  for (int i = 0; i < 3; ++i) {
    for (const int index : indices_of(loader.next_blocking())) ++counts[index];
  }
  EXPECT_EQ(counts.size(), 6U);
  for (const auto& [index, count] : counts) EXPECT_EQ(count, 2) << index;
}

TEST(BatchLoader, WorkersAndPrefetchDoNotChangeBatches) {
  const auto images = std::make_shared<GreySet>(50);
  LoaderOptions options = full_options(8);
  options.num_workers = 1;
  options.prefetch = 1;
  const std::vector<Copied> expected = global_batches(images, options, 1, 0, 15);
  for (const int num_workers : {2, 3, 7}) {
    options.num_workers = num_workers;
    options.prefetch = num_workers;
    EXPECT_EQ(global_batches(images, options, 1, 0, 15), expected) << num_workers;
  }
}

TEST(BatchLoader, RanksDoNotChangeTheGlobalBatch) {
  const auto images = std::make_shared<GreySet>(50);
  const std::vector<Copied> expected = global_batches(images, full_options(8), 1, 0, 15);
  EXPECT_EQ(global_batches(images, full_options(8), 2, 0, 15), expected);
  EXPECT_EQ(global_batches(images, full_options(8), 4, 0, 15), expected);
}

// 50 images and batches of 8: step 9 is in the middle of the second epoch.
TEST(BatchLoader, SeekResumesInTheMiddleOfAnEpoch) {
  const auto images = std::make_shared<GreySet>(50);
  const std::vector<Copied> all = global_batches(images, full_options(8), 2, 0, 15);
  const std::vector<Copied> rest = global_batches(images, full_options(8), 1, 9, 6);
  EXPECT_EQ(rest, std::vector<Copied>(all.begin() + 9, all.end()));
  BatchLoader loader(images, full_options(8));
  for (const std::int64_t step : {3, 14, 0, 2}) {  // forwards and back, with batches in the making
    loader.seek(step);
    Copied batch;
    batch.append(loader.next_blocking());
    EXPECT_EQ(batch, all[static_cast<std::size_t>(step)]) << step;
  }
}

TEST(BatchLoader, SeedsAndEpochsDiffer) {
  const auto images = std::make_shared<GreySet>(8);
  LoaderOptions options = full_options(8);
  const std::vector<Copied> first = global_batches(images, options, 1, 0, 2);
  EXPECT_NE(first[0], first[1]);
  options.seed = 4;
  EXPECT_NE(global_batches(images, options, 1, 0, 1)[0], first[0]);
}

// Images of one grey, blended: each row's value is share * own + (1 - share) * other, as its target says.
TEST(BatchLoader, MixupTargetsSayWhatWasMixed) {
  LoaderOptions options = plain_options(2);
  options.augment.mix = {.mixup = 1.0};
  options.num_classes = 5;
  const auto images = std::make_shared<GreySet>(40);
  LoaderOptions unmixed = plain_options(2);
  BatchLoader plain(images, unmixed);
  BatchLoader mixed(images, options);
  int num_informative = 0;
  for (int step = 0; step < 20; ++step) {
    const ImageBatch plain_batch = plain.next_blocking();
    const ImageBatch batch = mixed.next_blocking();
    ASSERT_EQ(batch.targets.shape, (Shape{2, 5}));
    EXPECT_EQ(labels_of(batch), labels_of(plain_batch));
    const std::vector<int> own = indices_of(plain_batch);
    const auto* targets = batch.targets.as<float>();
    const std::vector<std::int32_t> labels = labels_of(batch);
    for (int row = 0; row < 2; ++row) {
      float sum = 0;
      for (int k = 0; k < 5; ++k) sum += targets[5 * row + k];
      EXPECT_NEAR(sum, 1, 1e-6);
      if (labels[0] == labels[1]) continue;
      ++num_informative;
      const float share = targets[5 * row + labels[static_cast<std::size_t>(row)]];
      const float expected = share * static_cast<float>(own[static_cast<std::size_t>(row)]) +
                             (1 - share) * static_cast<float>(own[static_cast<std::size_t>(1 - row)]);
      EXPECT_NEAR(batch.images.slice<float>(row)[7], expected, 1e-4);
    }
  }
  EXPECT_GT(num_informative, 10);
}

TEST(BatchLoader, SoftTargetsWithoutMixingAreTheLabels) {
  LoaderOptions options = plain_options(3);
  options.soft_targets = true;
  options.dtype = DType::kF64;
  BatchLoader loader(std::make_shared<GreySet>(3), options);
  const ImageBatch batch = loader.next_blocking();
  ASSERT_EQ(batch.targets.dtype, DType::kF64);
  ASSERT_EQ(batch.images.dtype, DType::kF64);
  for (std::size_t row = 0; row < 3; ++row) {
    for (int k = 0; k < 3; ++k)
      EXPECT_EQ(batch.targets.as<double>()[3 * row + static_cast<std::size_t>(k)],
                labels_of(batch)[row] == k ? 1 : 0);
  }
}

// 10 images on 2 ranks of 3: two batches, in order; the second rank's last has one image, the first's is
// full.
TEST(BatchLoader, EvaluationGivesEveryImageOnceAndPads) {
  const auto images = std::make_shared<GreySet>(10);
  LoaderOptions options = plain_options(3);
  options.mode = LoadMode::kEvaluation;
  options.world = 2;
  BatchLoader first(images, options);
  options.rank = 1;
  BatchLoader second(images, options);
  EXPECT_EQ(first.num_batches(), 2);
  EXPECT_THAT(indices_of(first.next_blocking()), ElementsAre(0, 1, 2));
  EXPECT_THAT(indices_of(second.next_blocking()), ElementsAre(3, 4, 5));
  EXPECT_THAT(indices_of(first.next_blocking()), ElementsAre(6, 7, 8));
  EXPECT_EQ(first.num_valid(), 3);
  const ImageBatch last = second.next_blocking();
  EXPECT_EQ(second.num_valid(), 1);
  EXPECT_THAT(indices_of(last), ElementsAre(9, 0, 0));
  EXPECT_THAT(labels_of(last), ElementsAre(0, kNoLabel, kNoLabel));
  EXPECT_THAT([&] { (void)second.next_blocking(); },
              ThrowsMessage<InputError>("the evaluation's 2 batches were all given; seek(0) begins again"));
  second.seek(0);
  EXPECT_THAT(indices_of(second.next_blocking()), ElementsAre(3, 4, 5));
}

TEST(BatchLoader, CorruptImagesAreReplacedByTheNext) {
  const auto images = std::make_shared<GreySet>(20, std::set<std::int64_t>{4, 19});
  LoaderOptions options = plain_options(5);
  options.max_corrupt_fraction = 0.1;
  ::testing::internal::CaptureStderr();
  std::map<int, int> counts;
  {
    BatchLoader loader(images, options);
    for (int i = 0; i < 12; ++i) {
      const ImageBatch batch = loader.next_blocking();
      const std::vector<int> indices = indices_of(batch);
      for (std::size_t row = 0; row < indices.size(); ++row) {
        ++counts[indices[row]];
        EXPECT_EQ(labels_of(batch)[row], indices[row] % 3) << "the replacement's own label";
      }
    }
    EXPECT_EQ(loader.num_corrupt(), 2);
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("skipped: grey 4: is corrupt"));
  EXPECT_THAT(log, HasSubstr("skipped: grey 19: is corrupt"));
  EXPECT_EQ(log.find("grey 4:"), log.rfind("grey 4:")) << "named once";
  EXPECT_EQ(counts[5], 6);
  EXPECT_EQ(counts[0], 6);
  EXPECT_EQ(counts[1], 3);
  EXPECT_EQ(counts.size(), 18U);
}

TEST(BatchLoader, EvaluationLeavesCorruptImagesOut) {
  LoaderOptions options = plain_options(4);
  options.mode = LoadMode::kEvaluation;
  options.max_corrupt_fraction = 0.25;
  BatchLoader loader(std::make_shared<GreySet>(4, std::set<std::int64_t>{2}), options);
  const ImageBatch batch = loader.next_blocking();
  EXPECT_THAT(labels_of(batch), ElementsAre(0, 1, kNoLabel, 0));
  EXPECT_EQ(loader.num_valid(), 4);
  EXPECT_EQ(loader.num_corrupt(), 1);
}

TEST(BatchLoader, TooManyCorruptImagesAreFatal) {
  LoaderOptions options = plain_options(4);
  options.max_corrupt_fraction = 0.1;
  options.num_workers = 1;
  BatchLoader loader(std::make_shared<GreySet>(20, std::set<std::int64_t>{1, 3, 5}), options);
  const auto read_all = [&] {
    for (int i = 0; i < 5; ++i) (void)loader.next_blocking();
  };
  EXPECT_THAT(read_all, ThrowsMessage<InputError>(::testing::AllOf(
                            HasSubstr("3 of 20 images could not be read; at most 2 may be. The last: grey "),
                            HasSubstr(": is corrupt"))));
  EXPECT_THROW(read_all(), InputError) << "again, until seek()";
}

TEST(BatchLoader, MoreThanTenCorruptImagesAreOnlyCounted) {
  std::set<std::int64_t> corrupt;
  for (std::int64_t i = 0; i < 15; ++i) corrupt.insert(2 * i);
  LoaderOptions options = plain_options(40);
  options.max_corrupt_fraction = 0.5;
  ::testing::internal::CaptureStderr();
  BatchLoader loader(std::make_shared<GreySet>(40, corrupt), options);
  (void)loader.next_blocking();
  EXPECT_EQ(loader.num_corrupt(), 15);
  std::string log = ::testing::internal::GetCapturedStderr();
  int num_named = 0;
  for (std::size_t at = log.find("skipped: grey"); at != std::string::npos;
       at = log.find("skipped: grey", at + 1))
    ++num_named;
  EXPECT_EQ(num_named, 10);
}

TEST(BatchLoader, EndsWhileImagesAreInTheMaking) {
  for (int round = 0; round < 30; ++round) {
    LoaderOptions options = full_options(16);
    options.num_workers = 4;
    options.prefetch = 3;
    BatchLoader loader(std::make_shared<GreySet>(100), options);
    if (round % 3 == 1) (void)loader.next_blocking();
    if (round % 3 == 2) loader.seek(round);
  }
}

TEST(BatchLoader, ReadsNoFurtherAheadThanAsked) {
  const auto images = std::make_shared<GreySet>(100);
  LoaderOptions options = plain_options(4);
  options.prefetch = 2;
  {
    BatchLoader loader(images, options);
    (void)loader.next_blocking();
  }
  EXPECT_LE(images->num_reads(), 12);
}

TEST(BatchLoader, OptionsThatCannotBeAreNamed) {
  const auto images = std::make_shared<GreySet>(10);
  const auto with = [&](auto change) {
    return [&, change] {
      LoaderOptions options = plain_options(4);
      change(options);
      BatchLoader(images, options);
    };
  };
  EXPECT_THAT(
      with([](LoaderOptions& o) {
        o.local_batch = 3;
        o.augment.mix.cutmix = 1;
      }),
      ThrowsMessage<InputError>(
          "mixup and cutmix mix pairs of neighbours; 3 images for each rank do not divide into pairs"));
  EXPECT_THAT(with([](LoaderOptions& o) { o.local_batch = 0; }),
              ThrowsMessage<InputError>(HasSubstr("local batch is 0")));
  EXPECT_THAT(with([](LoaderOptions& o) { o.rank = 1; }),
              ThrowsMessage<InputError>(HasSubstr("rank is 1 of 1")));
  EXPECT_THAT(with([](LoaderOptions& o) { o.num_workers = 0; }),
              ThrowsMessage<InputError>(HasSubstr("0 workers")));
  EXPECT_THAT(with([](LoaderOptions& o) { o.dtype = DType::kBF16; }),
              ThrowsMessage<InputError>(HasSubstr("images of bf16")));
  EXPECT_THAT(with([](LoaderOptions& o) { o.num_classes = 2; }),
              ThrowsMessage<InputError>("the images are of 3 classes, and the model has 2"));
  EXPECT_THROW(BatchLoader(std::make_shared<GreySet>(0), plain_options(1)), InputError);
  BatchLoader loader(images, plain_options(4));
  EXPECT_THAT([&] { loader.seek(-1); }, ThrowsMessage<InputError>("BatchLoader::seek: there is no step -1"));
}

}  // namespace
}  // namespace flex
