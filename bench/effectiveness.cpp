#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/atomic_file.h"
#include "base/json.h"
#include "bench/effectiveness_report.h"
#include "bench/program_main.h"

/// Whether experts help: dense and MoE models of equal compute trained alike on procedural images, all at
/// once on one device. Prints what docs/effectiveness.md shows, which also says how it is done. Exits with 0
/// whether the published orderings show or not: that is a finding, not a failure.
namespace flex::bench {
namespace {

int run_program(int argc, char** argv) {
  StudySettings settings;
  settings.render_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::string dtype = "bf16";
  std::string json_file;
  std::string markdown_file;
  CLI::App app("Dense and MoE models of equal compute on procedural images");
  app.add_option("--device", settings.device, "cpu or cuda:N");
  app.add_option("--dtype", dtype, "bf16 on CUDA; fp32")->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  app.add_option("--experts", settings.experts, "E of each model, by commas; 0 is dense")->delimiter(',');
  app.add_option("--seeds", settings.num_seeds, "runs of each model")->check(CLI::PositiveNumber);
  app.add_option("--seed", settings.first_seed, "the first of them");
  app.add_option("--steps", settings.steps, "of each run, instead of what fits")->check(CLI::PositiveNumber);
  app.add_option("--minutes", settings.minutes, "time of the whole")->check(CLI::PositiveNumber);
  app.add_option("--batch", settings.batch_size, "images of a step")->check(CLI::PositiveNumber);
  app.add_option("--train-images", settings.train_images, "rendered at the start")
      ->check(CLI::PositiveNumber);
  app.add_option("--validation-images", settings.validation_images, "a multiple of the batch")
      ->check(CLI::PositiveNumber);
  app.add_option("--classes", settings.num_classes, "of images")->check(CLI::PositiveNumber);
  app.add_option("--nuisance", settings.nuisance, "how much hides what tells the class")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--embed-dim", settings.embed_dim, "C of stage 0")->check(CLI::PositiveNumber);
  app.add_option("--depths", settings.depths, "blocks of the four stages, by commas")
      ->delimiter(',')
      ->expected(4);
  app.add_option("--mlp-ratio", settings.mlp_ratio, "hidden over model dim")->check(CLI::PositiveNumber);
  app.add_option("--gate", settings.gate, "cosine or linear")->check(CLI::IsMember({"cosine", "linear"}));
  app.add_option("--loss-weight", settings.loss_weight, "of the auxiliary loss")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--learning-rate", settings.learning_rate, "after the warm-up")->check(CLI::PositiveNumber);
  app.add_option("--json", json_file, "also write results there");
  app.add_option("--markdown", markdown_file, "also write there what is printed");
  CLI11_PARSE(app, argc, argv);
  if (settings.device == "cpu" && app.count("--dtype") == 0) dtype = "fp32";
  settings.dtype = parse_dtype(dtype).value();

  const StudyResult result = run_study_blocking(settings);
  const std::string text = study_markdown(result);
  fmt::print("{}", text);
  if (!json_file.empty()) write_json_file(json_file, to_json(result));
  if (!markdown_file.empty()) {
    AtomicFile file(markdown_file);
    file.write(text);
    file.commit();
  }
  return 0;
}

}  // namespace
}  // namespace flex::bench

int main(int argc, char** argv) {
  return flex::bench::program_main("flexmoe_effectiveness", argc, argv, flex::bench::run_program);
}
