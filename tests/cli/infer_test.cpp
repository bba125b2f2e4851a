#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/kept_run.h"
#include "tests/cli/program.h"
#include "tests/models/data/image_files.h"

/// `flexmoe infer`, and `flexmoe eval` of a folder of images, as a user calls them.
namespace flex::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class ImageProgram : public ::testing::Test {
 protected:
  ImageProgram() {
    write_bytes(run_.path("a.png"), encode_png(textured_image(70, 90, 1)));
    write_bytes(run_.path("b.jpg"), encode_jpeg(textured_image(120, 64, 2), 90));
    write_bytes(run_.path("c.png"), encode_png(textured_image(64, 64, 3)));
    write_bytes(run_.path("text.jpg"), "no image");
  }
  [[nodiscard]] std::string images() const {
    return run_.path("a.png") + " " + run_.path("b.jpg") + " " + run_.path("c.png");
  }
  // ROOT with images of so many classes under the model's names.
  [[nodiscard]] std::string folder_of(std::size_t classes) const {
    const fs::path root = run_.path("images");
    for (std::size_t label = 0; label < classes; ++label) {
      const fs::path folder = root / run_.class_names()[label];
      fs::create_directories(folder);
      for (std::uint64_t i = 0; i < 2; ++i)
        write_bytes(folder / (std::to_string(i) + ".png"), encode_png(textured_image(64, 64, label * 2 + i)));
    }
    return root.string();
  }

  KeptRun run_;
};

TEST_F(ImageProgram, InferNamesTheMostProbableClasses) {
  const Result result = flexmoe("infer " + run_.path() + " " + images() + " --top 2");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(std::ranges::count(result.out, '\n'), 2 + 3 * 2);  // title, rule, two classes of each image
  for (const char* name : {"a.png", "b.jpg", "c.png"}) EXPECT_THAT(result.out, HasSubstr(run_.path(name)));
}

TEST_F(ImageProgram, InferIsTheSameOnAnyRanksAndInAnyBatch) {
  const auto json_of = [&](const std::string& arguments) {
    const Result result = flexmoe("infer --json " + run_.path() + " " + images() + " " + arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out)["images"];
  };
  const nlohmann::json expected = json_of("");
  ASSERT_EQ(expected.size(), 3U);
  for (const nlohmann::json& image : expected) {
    ASSERT_EQ(image["classes"].size(), 5U);
    double sum = 0;
    for (const nlohmann::json& entry : image["classes"]) {
      EXPECT_EQ(entry["class"], run_.class_names()[entry["label"].get<std::size_t>()]);
      sum += entry["probability"].get<double>();
    }
    EXPECT_NEAR(sum, 1, 1e-12);
  }
  for (const char* arguments : {"--batch 1", "--ranks 2", "--ranks 2 --batch 4"}) {
    const nlohmann::json images = json_of(arguments);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(images[i]["image"], expected[i]["image"]);
      EXPECT_EQ(images[i]["classes"][0]["label"], expected[i]["classes"][0]["label"]) << arguments;
    }
  }
}

TEST_F(ImageProgram, InferSkipsWhatIsNoImage) {
  const Result result = flexmoe("infer --json " + run_.path() + " " + run_.path("text.jpg") + " " + images() +
                                " " + run_.path("missing.png"));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(std::ranges::count(result.err, '\n'), 2) << result.err;
  EXPECT_THAT(result.err, HasSubstr("flexmoe: skipped: " + run_.path("text.jpg")));
  EXPECT_THAT(result.err, HasSubstr(run_.path("missing.png")));
  const nlohmann::json images = nlohmann::json::parse(result.out)["images"];
  ASSERT_EQ(images.size(), 5U);
  EXPECT_THAT(images[0]["error"].get<std::string>(), HasSubstr("text.jpg"));
  EXPECT_FALSE(images[0].contains("classes"));
  EXPECT_EQ(images[3]["classes"].size(), 5U);
  EXPECT_TRUE(images[4].contains("error"));
}

// A file of parameters knows no names.
TEST_F(ImageProgram, InferGivesNumbersWhereNamesAreUnknown) {
  const std::string file = run_.path("x.safetensors");
  ASSERT_EQ(
      flexmoe("checkpoint convert " + run_.path("checkpoints") + " -o " + file + " --to timm").exit_code, 0);
  const Result result = flexmoe("infer " + file + " " + run_.path("a.png") + " --json");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json classes = nlohmann::json::parse(result.out)["images"][0]["classes"];
  EXPECT_TRUE(classes[0].contains("label"));
  EXPECT_FALSE(classes[0].contains("class"));
}

TEST_F(ImageProgram, InferRefusesInOneLine) {
  const auto error = [](const std::string& arguments) {
    const Result result = flexmoe("infer " + arguments);
    EXPECT_EQ(result.exit_code, 2) << result.out;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    return result.err;
  };
  EXPECT_THAT(error(run_.path("nothing") + " " + images()), HasSubstr("there is no such model"));
  EXPECT_THAT(error(run_.path()), HasSubstr("images is required"));
  EXPECT_THAT(error(run_.path() + " " + images() + " --top 0"), HasSubstr("--top"));
}

// A folder's classes are in the order of their names.
TEST_F(ImageProgram, EvalReadsAFolder) {
  std::vector<std::string> names = run_.class_names();
  std::ranges::sort(names);
  write_bytes(run_.path("classes.json"), nlohmann::json(names).dump());
  const std::string arguments = run_.path() + " --data folder:" + folder_of(5);
  const Result result = flexmoe("eval --json " + arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["samples"], 10);
  EXPECT_EQ(json["classes"][3]["samples"], 2);
  write_bytes(run_.path("images/" + run_.class_names()[1] + "/0.png"), "no image");
  const Result damaged = flexmoe("eval " + arguments);
  EXPECT_EQ(damaged.exit_code, 2);
  EXPECT_THAT(damaged.err, HasSubstr("1 of 10 images could not be read; at most 0 may be"));
}

TEST_F(ImageProgram, EvalNamesOtherClasses) {
  const std::string arguments = "eval " + run_.path() + " --data folder:" + folder_of(3);
  EXPECT_THAT(flexmoe(arguments).err, HasSubstr("the images are of 3 classes, and the model tells 5 apart"));
  static_cast<void>(folder_of(5));
  fs::rename(run_.path("images/" + run_.class_names()[0]), run_.path("images/zebra"));
  const Result result = flexmoe(arguments);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("of the images is "));
}

}  // namespace
}  // namespace flex::testing
