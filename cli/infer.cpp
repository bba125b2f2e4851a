#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/saved_model_options.h"
#include "cli/table.h"
#include "models/classify_images.h"

// flexmoe infer MODEL IMAGE... [--top 5] [--json]
// Says what a model takes images for. Exit 1 if one could not be read.
namespace flex::cli {
namespace {

struct Options {
  SavedModelOptions model;
  std::vector<std::string> images;
  std::int64_t top = 5;
  bool json = false;
};

std::string class_text(const SavedModel& saved, std::int64_t label) {
  return saved.class_names.empty() ? fmt::format("{}", label)
                                   : saved.class_names[static_cast<std::size_t>(label)];
}

// As many rows as images, on as many ranks, unless told otherwise.
void fit_batch(const Options& options, SavedModel& saved) {
  const std::int64_t ranks = options.model.machine.ranks;
  std::int64_t& batch = saved.file.training.batch_size;
  if (options.model.batch || options.model.machine.launcher != "threads") return;
  const std::int64_t wanted = std::min<std::int64_t>(batch, std::ssize(options.images));
  batch = (wanted + ranks - 1) / ranks * ranks;
}

void print_json(const SavedModel& saved, const std::vector<ClassifiedImage>& images) {
  nlohmann::ordered_json json = {{"model", saved.file.model.name}, {"parameters", saved.parameters.string()}};
  json["images"] = nlohmann::ordered_json::array();
  for (const ClassifiedImage& image : images) {
    nlohmann::ordered_json entry = {{"image", image.path.string()}};
    if (!image.error.empty()) entry["error"] = image.error;
    for (const ScoredClass& scored : image.classes) {
      nlohmann::ordered_json one = {{"label", scored.label}};
      if (!saved.class_names.empty()) one["class"] = class_text(saved, scored.label);
      one["probability"] = scored.probability;
      entry["classes"].push_back(std::move(one));
    }
    json["images"].push_back(std::move(entry));
  }
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_text(const SavedModel& saved, const std::vector<ClassifiedImage>& images) {
  Table table({{"image", Align::kLeft}, {"class", Align::kLeft}, {"probability"}});
  for (const ClassifiedImage& image : images) {
    std::string path = image.path.string();
    for (const ScoredClass& scored : image.classes) {
      table.add({path, class_text(saved, scored.label), fmt::format("{:.2f}%", 100 * scored.probability)});
      path.clear();
    }
  }
  fmt::print("{}", table.text());
}

std::vector<ClassifiedImage> classify(const Options& options, const SavedModel& saved) {
  const std::vector<std::filesystem::path> files(options.images.begin(), options.images.end());
  std::vector<ClassifiedImage> images;
  options.model.machine.run("infer", [&](Communicator& world) {
    RankContext context(world, options.model.machine.usable_device(saved.file.training.dtype),
                        {.allow_tf32 = options.model.machine.tf32});
    ModelPlans plans(options.model.plans, saved.file, false, context);
    ImageClassifier classifier(saved.file.model, saved.file.training, plans.source(), context);
    load_saved_model(saved, options.model.average, classifier, context);
    Progress bar("infer", WhenInterrupted::kGoOn);
    const auto progress = [&](std::int64_t done, std::int64_t total) {
      if (world.rank() == 0) bar.update(done, total);
      return !Interrupt::requested();
    };
    std::vector<ClassifiedImage> all =
        classify_files_blocking(classifier, files, saved.file.data.augment, options.top, context, progress);
    if (world.rank() == 0) images = std::move(all);
  });
  return images;
}

void run(const Options& options, Outcome& outcome) {
  SavedModel saved = options.model.open();
  static_cast<void>(options.model.machine.usable_device(saved.file.training.dtype));
  fit_batch(options, saved);
  std::vector<ClassifiedImage> images;
  {
    const Interrupt interrupt;
    images = classify(options, saved);
    if (Interrupt::requested()) outcome.exit_code = kInterrupted;
  }
  if (images.empty()) return;  // another rank of the job prints
  for (const ClassifiedImage& image : images) {
    if (image.error.empty()) continue;
    fmt::print(stderr, "flexmoe: skipped: {}\n", image.error);
    if (outcome.exit_code == 0) outcome.exit_code = 1;
  }
  options.json ? print_json(saved, images) : print_text(saved, images);
}

}  // namespace

void add_infer(CLI::App& app, Outcome& outcome) {
  CLI::App* command = app.add_subcommand("infer", "Say what a model takes images for");
  auto options = std::make_shared<Options>();
  add_saved_model_options(*command, options->model);
  command->add_option("images", options->images, "JPEG and PNG files")->required();
  command->add_option("--top", options->top, "Classes of each image")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n  flexmoe infer runs/flowers photo.jpg other.png\n  flexmoe infer swinv2_tiny.safetensors "
      "--config models/configs/swinv2_tiny.json photo.jpg --top 1 --json");
  command->callback([options, &outcome] { run(*options, outcome); });
}

}  // namespace flex::cli
