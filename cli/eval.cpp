#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/require.h"
#include "cli/commands.h"
#include "cli/evaluation_table.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/saved_model_options.h"
#include "models/few_shot_evaluation.h"
#include "models/training_data.h"

// flexmoe eval MODEL [--config FILE] [--data SOURCE] [--image-size S] [--capacity-factor F] [--probe-shots K]
// [--json] Evaluates a model on the validation images; docs/evaluation.md.
namespace flex::cli {
namespace {

struct Options {
  SavedModelOptions model;
  std::string data;
  std::int64_t probe_shots = 0;
  std::uint64_t probe_seed = 0;
  bool json = false;
};

/// What rank 0 prints.
struct Result {
  std::optional<ClassifierEvaluation> evaluation;
  std::int64_t num_done = 0;  ///< images, those that could not be read among them
  double elapsed_s = 0;
  std::optional<ClassifierEvaluation> probe;
};

// The images that options name, or the configuration.
void choose_data(const Options& options, SavedModel& saved) {
  require(saved.has_data || !options.data.empty(),
          "{}: does not tell its images; name them with --data, such as --data folder:PATH",
          options.model.path);
  ModelFile& file = saved.file;
  if (!options.data.empty()) {
    file.data = with_data_source(file.data, options.data);
    if (!saved.has_data && file.data.kind == DataKind::kProcedural) file.data.augment = procedural_augment();
    // A folder of classes alone is what to evaluate on.
    if (!has_validation(file.data)) file.data.validation = file.data.training;
  }
  fit_procedural_data(file);
}

class Evaluator {
 public:
  Evaluator(const Options& options, const SavedModel& saved, RankContext& context)
      : options_(options),
        saved_(saved),
        context_(context),
        plans_(options.model.plans, saved.file, false, context),
        classifier_(saved.file.model, saved.file.training, plans_.source(), context) {
    load_saved_model(saved, options.model.average, classifier_, context);
  }

  void run_blocking(const TrainingData& data, Result& result) {
    const auto infer = [this](ConstTensorView images) { return classifier_.infer_blocking(images); };
    const auto start = std::chrono::steady_clock::now();
    result.evaluation = evaluate_blocking("eval", infer, data.validation, result.num_done);
    result.elapsed_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (options_.probe_shots == 0 || result.num_done < data.validation->num_images()) return;
    const FewShotOptions shots{.shots = options_.probe_shots, .seed = options_.probe_seed};
    std::int64_t num_done = 0;
    const auto probe = fit_few_shot_probe_blocking(classifier_, data.training, shots, loader_options(),
                                                   context_, progress("shots", num_done));
    if (!probe) return;
    ClassifierEvaluation scores =
        evaluate_blocking("probe", probing(classifier_, *probe), data.validation, num_done);
    if (num_done == data.validation->num_images()) result.probe = std::move(scores);
  }

 private:
  [[nodiscard]] LoaderOptions loader_options() {
    return flex::loader_options(saved_.file, LoadMode::kEvaluation, context_);
  }
  [[nodiscard]] EvaluationProgress progress(const std::string& what, std::int64_t& num_done) {
    const auto bar =
        context_.rank() == 0 ? std::make_shared<Progress>(what, WhenInterrupted::kGoOn) : nullptr;
    return [bar, &num_done](std::int64_t done, std::int64_t total) {
      num_done = done;
      if (bar) bar->update(done, total);
      return !Interrupt::requested();
    };
  }
  [[nodiscard]] ClassifierEvaluation evaluate_blocking(const std::string& what,
                                                       const InferenceFunction& infer,
                                                       const std::shared_ptr<const ImageSet>& images,
                                                       std::int64_t& num_done) {
    return evaluate_set_blocking(infer, images, loader_options(), context_, progress(what, num_done));
  }

  const Options& options_;
  const SavedModel& saved_;
  RankContext& context_;
  ModelPlans plans_;
  ImageClassifier classifier_;
};

void print_json(const Options& options, const SavedModel& saved, const ImageSet& images,
                const Result& result) {
  const ClassifierEvaluation& evaluation = *result.evaluation;
  nlohmann::ordered_json json = {{"model", saved.file.model.name}, {"parameters", saved.parameters.string()}};
  if (saved.step) json["step"] = *saved.step;
  json["complete"] = result.num_done == images.num_images();
  json["unreadable"] = result.num_done - evaluation.num_samples();
  json["images_per_s"] = static_cast<double>(result.num_done) / result.elapsed_s;
  json.update(to_json(evaluation, images.class_names()));
  if (result.probe) {
    json["probe"] = {{"shots", options.probe_shots},
                     {"seed", options.probe_seed},
                     {"top1", result.probe->top1()},
                     {"top5", result.probe->top5()}};
  }
  fmt::print("{}\n", json.dump(2));
}

void print_text(const Options& options, const SavedModel& saved, const ImageSet& images,
                const Result& result) {
  const ClassifierEvaluation& evaluation = *result.evaluation;
  fmt::print("{}: {}{}\n", saved.file.model.name, description(saved),
             options.model.average ? ", moving average" : "");
  fmt::print("{}", evaluation_text(evaluation, images.class_names()));
  if (result.probe) {
    fmt::print("\nlinear probe, {} image(s) of each class: top-1 {:.2f}%, top-5 {:.2f}%\n",
               options.probe_shots, 100 * result.probe->top1(), 100 * result.probe->top5());
  }
  fmt::print("\n{:.1f} images/s", static_cast<double>(result.num_done) / result.elapsed_s);
  const std::int64_t unreadable = result.num_done - evaluation.num_samples();
  if (unreadable > 0) fmt::print(", {} image(s) could not be read", unreadable);
  fmt::print("\n");
  if (result.num_done < images.num_images())
    fmt::print("stopped after {} of {} images\n", result.num_done, images.num_images());
}

void run(const Options& options, Outcome& outcome) {
  SavedModel saved = options.model.open();
  static_cast<void>(options.model.machine.usable_device(saved.file.training.dtype));
  choose_data(options, saved);
  TrainingData data;
  data.validation = make_image_set(saved.file.data, DataSplit::kValidation);
  require_same_classes(saved, *data.validation);
  if (options.probe_shots > 0) data.training = make_image_set(saved.file.data, DataSplit::kTraining);
  Result result;
  bool was_stopped = false;
  {
    const Interrupt interrupt;
    options.model.machine.run("eval", [&](Communicator& world) {
      RankContext context(world, options.model.machine.usable_device(saved.file.training.dtype),
                          {.allow_tf32 = options.model.machine.tf32});
      Result of_rank;
      Evaluator(options, saved, context).run_blocking(data, of_rank);
      if (world.rank() == 0) result = std::move(of_rank);
    });
    was_stopped = Interrupt::requested();
  }
  if (was_stopped) outcome.exit_code = kInterrupted;
  if (!result.evaluation) return;  // another rank of the job prints
  options.json ? print_json(options, saved, *data.validation, result)
               : print_text(options, saved, *data.validation, result);
}

}  // namespace

void add_eval(CLI::App& app, Outcome& outcome) {
  CLI::App* command = app.add_subcommand("eval", "Evaluate a model on labelled images");
  auto options = std::make_shared<Options>();
  add_saved_model_options(*command, options->model);
  command->add_option("--data", options->data,
                      "Images: folder:ROOT (ROOT/val if it is there), cifar10:FOLDER, cifar100:FOLDER or "
                      "procedural; otherwise the validation images of the configuration");
  command
      ->add_option("--probe-shots", options->probe_shots,
                   "Also fit a linear probe on the features of so many training images of each class")
      ->check(CLI::PositiveNumber);
  command->add_option("--probe-seed", options->probe_seed, "Of the choice of these images")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n  flexmoe eval runs/micro\n  flexmoe eval swinv2_tiny.safetensors --config "
      "models/configs/swinv2_tiny.json --data folder:imagenet\n  flexmoe eval runs/micro --average "
      "--capacity-factor 0.5 --token-order --json");
  command->callback([options, &outcome] { run(*options, outcome); });
}

}  // namespace flex::cli
