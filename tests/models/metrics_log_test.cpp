#include "models/metrics_log.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/read_file.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/compare.h"

namespace flex::testing {
namespace {

StepMetrics step_metrics(std::int64_t step) {
  return {.step = step,
          .epoch = step / 4,
          .loss = 1.0 / static_cast<double>(step),
          .cross_entropy = 0.1 * static_cast<double>(step),
          .auxiliary_loss = 2,
          .gradient_norm = 3.5,
          .learning_rate = 1e-3,
          .loss_scale = 1,
          .images_per_s = 100,
          .moe_share = step % 2 == 0 ? std::optional(0.25) : std::nullopt,
          .plans = "r1 d2 2dh"};
}

EvaluationMetrics evaluation_metrics(std::int64_t step) {
  return {.step = step, .epoch = step / 4, .samples = 50, .loss = 1.5, .top1 = 0.5, .top5 = 0.75};
}

class MetricsLogTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::filesystem::path path() const { return directory_ / "metrics.jsonl"; }
  [[nodiscard]] std::string content() const { return read_file(path(), kMaxMetricsBytes); }
  void write(const std::string& text) const { std::ofstream(path()) << text; }
  /// Steps (first, last] with an evaluation after each fourth.
  static void run(MetricsLog& log, std::int64_t first, std::int64_t last) {
    for (std::int64_t step = first + 1; step <= last; ++step) {
      log.add(step_metrics(step));
      if (step % 4 == 0) log.add(evaluation_metrics(step));
    }
  }
  [[nodiscard]] std::string error_of(const std::string& text) const {
    write(text);
    return error_text([&] { static_cast<void>(read_metrics(path())); });
  }
  [[nodiscard]] std::string at(const std::string& rest) const { return path().string() + rest; }

  TemporaryDirectory directory_;
};

TEST_F(MetricsLogTest, WritesAFlatObjectALine) {
  MetricsLog log(path(), 0);
  EXPECT_EQ(content(), "");
  log.add(step_metrics(2));
  EXPECT_EQ(
      content(),
      R"({"kind":"step","step":2,"epoch":0,"loss":0.5,"cross_entropy":0.2,"auxiliary_loss":2.0,)"
      R"("gradient_norm":3.5,"learning_rate":0.001,"loss_scale":1.0,"updated":true,"images_per_s":100.0,)"
      R"("moe_share":0.25,"plans":"r1 d2 2dh"})"
      "\n");
  log.add(EvaluationMetrics{.step = 2, .epoch = 1, .samples = 50, .loss = 1.5, .top1 = 0.5, .top5 = 0.75});
  EXPECT_EQ(content().substr(content().find('\n') + 1),
            R"({"kind":"evaluation","step":2,"epoch":1,"samples":50,"loss":1.5,"top1":0.5,"top5":0.75})"
            "\n");
}

TEST_F(MetricsLogTest, ReadsWhatItWrote) {
  MetricsLog log(path(), 0);
  run(log, 0, 9);
  StepMetrics last = step_metrics(10);
  last.loss = last.gradient_norm = INFINITY;
  last.updated = false;
  last.plans = "";
  log.add(last);
  const TrainingMetrics metrics = read_metrics(path());
  ASSERT_EQ(metrics.steps.size(), 10U);
  ASSERT_EQ(metrics.evaluations.size(), 2U);
  EXPECT_EQ(metrics_line(metrics.steps[6]), metrics_line(step_metrics(7)));
  EXPECT_EQ(metrics_line(metrics.evaluations[1]), metrics_line(evaluation_metrics(8)));
  EXPECT_TRUE(std::isnan(metrics.steps[9].loss));  // not finite: left out
  EXPECT_FALSE(metrics.steps[9].updated);
  EXPECT_EQ(metrics.steps[8].moe_share, std::nullopt);
}

// Whatever step a run is taken up from, and wherever its file was cut off, it ends as one that was never
// interrupted.
TEST_F(MetricsLogTest, TakenUpAgainItEqualsAnUninterruptedRun) {
  {
    MetricsLog log(path(), 0);
    run(log, 0, 10);
  }
  const std::string whole = content();
  for (const std::int64_t done : {0, 1, 4, 7, 10}) {
    std::size_t lines_kept = 0;  // bytes that belong to the steps that are done
    parse_metrics(whole, "whole", [&](const ParsedMetricsLine& line) {
      if (std::visit([](const auto& one) { return one.step; }, line.record) <= done) lines_kept = line.end;
    });
    for (std::size_t cut = lines_kept; cut <= whole.size(); cut += 97) {
      write(whole.substr(0, cut));
      MetricsLog log(path(), done);
      EXPECT_EQ(content(), done == 0 ? "" : whole.substr(0, lines_kept)) << done << " " << cut;
      run(log, done, 10);
      EXPECT_EQ(content(), whole) << done << " " << cut;
    }
  }
}

TEST_F(MetricsLogTest, ALastLineThatOnlyLacksItsEndIsKept) {
  const std::string line = metrics_line(step_metrics(1));
  write(line.substr(0, line.size() - 1));
  EXPECT_EQ(read_metrics(path()).steps.size(), 1U);
  const MetricsLog log(path(), 3);
  EXPECT_EQ(content(), line);
}

TEST_F(MetricsLogTest, ACutOffLineIsNoMetrics) {
  const std::string line = metrics_line(step_metrics(1));
  const std::string next = metrics_line(step_metrics(2));
  for (std::size_t cut = 1; cut + 1 < next.size(); cut += 9) {
    write(line + next.substr(0, cut));
    EXPECT_EQ(read_metrics(path()).steps.size(), 1U) << cut;
    const MetricsLog log(path(), 2);
    EXPECT_EQ(content(), line) << cut;
  }
}

// A process that SIGKILL ends in the middle of a line after the other.
TEST_F(MetricsLogTest, AKilledRunLosesAtMostItsLastLine) {
  for (int round = 0; round < 5; ++round) {
    int told[2];
    ASSERT_EQ(::pipe(told), 0);
    const ::pid_t child = ::fork();
    if (child == 0) {
      ::close(told[0]);
      MetricsLog log(path(), 0);
      for (std::int64_t step = 1;; ++step) {
        log.add(step_metrics(step));
        if (::write(told[1], &step, sizeof(step)) != sizeof(step)) ::_exit(1);
      }
    }
    ::close(told[1]);
    std::int64_t last = 0;
    while (last < 100 * (round + 1) && ::read(told[0], &last, sizeof(last)) == sizeof(last)) {
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    while (::read(told[0], &last, sizeof(last)) == sizeof(last)) {
    }
    ::close(told[0]);
    const TrainingMetrics metrics = read_metrics(path());
    ASSERT_GE(static_cast<std::int64_t>(metrics.steps.size()), last);
    EXPECT_LE(static_cast<std::int64_t>(metrics.steps.size()), last + 1);
  }
}

TEST_F(MetricsLogTest, RefusesStepsThatGoBack) {
  MetricsLog log(path(), 0);
  log.add(step_metrics(3));
  log.add(evaluation_metrics(3));
  EXPECT_EQ(error_text([&] { log.add(step_metrics(3)); }),
            at(": metrics of step 3 come after those of step 3"));
  EXPECT_EQ(error_text([&] { log.add(evaluation_metrics(2)); }),
            at(": metrics of step 2 come after those of step 3"));
  log.add(step_metrics(4));
  EXPECT_EQ(read_metrics(path()).steps.size(), 2U);
}

TEST_F(MetricsLogTest, NamesTheLineOfAMistake) {
  const std::string good = metrics_line(step_metrics(5));
  EXPECT_EQ(error_of(good + "{\"kind\": \"step\", \"step\": 6, }\n" + good).substr(0, at(":2:29: ").size()),
            at(":2:29: "));
  EXPECT_EQ(error_of(good + "\n").substr(0, at(":2:").size()), at(":2:"));
  EXPECT_EQ(error_of(good + "{\"step\": 6}\n"),
            at(":2: kind: is missing; a line of metrics is a \"step\" or an \"evaluation\""));
  EXPECT_EQ(error_of("{\"kind\": \"setp\"}\n"),
            at(":1: kind: is \"setp\"; it must be one of step, evaluation (did you mean step?)"));
  EXPECT_EQ(error_of(good + metrics_line(step_metrics(4))), at(":2: step: is 4; a line before has 5"));
  EXPECT_EQ(error_of(good + good), at(":2: step: is 5, as in another line of its kind"));
  EXPECT_EQ(error_of(R"({"kind": "evaluation", "step": 1, "epoch": 0, "samples": 2, "top1": 1.5, "top5": 1})"
                     "\n"),
            at(":1: top1: is 1.5; it must be at least 0 and at most 1"));
  EXPECT_EQ(error_of(R"({"kind": "step", "step": 1, "epoch": 0, "updated": true, "los": 2})"
                     "\n"),
            at(":1: los: unknown key; did you mean \"loss\"?"));
  // What is no file of metrics stays as it is.
  EXPECT_NE(error_text([&] { MetricsLog log(path(), 3); }), "(nothing was thrown)");
  EXPECT_NE(content().find("los"), std::string::npos);
}

TEST_F(MetricsLogTest, AFileThatCannotBeMadeIsNamed) {
  const auto nowhere = directory_ / "no" / "metrics.jsonl";
  EXPECT_NE(error_text<FileError>([&] { MetricsLog log(nowhere, 0); }).find("no/"), std::string::npos);
  MetricsLog begun(path(), 5);  // taken up without its file
  EXPECT_EQ(content(), "");
}

}  // namespace
}  // namespace flex::testing
