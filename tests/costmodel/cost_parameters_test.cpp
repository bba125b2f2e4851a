#include "costmodel/cost_parameters.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/read_file.h"
#include "tests/base/expect_error.h"

namespace flex::testing {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(FLEX_SOURCE_DIR) / "costmodel" / "calibrations";

nlohmann::json ndv4() { return nlohmann::json::parse(read_file(kFolder / "azure_ndv4_a100.json", 1 << 20)); }

std::string error_of(const nlohmann::json& json) {
  return message_of<InputError>([&] { static_cast<void>(parse_calibration(json.dump(), "x.json")); });
}

std::string error_with(const std::string& pointer, const nlohmann::json& value) {
  nlohmann::json json = ndv4();
  json[nlohmann::json::json_pointer(pointer)] = value;
  return error_of(json);
}

class BuiltinCalibration : public ::testing::TestWithParam<std::string> {};

TEST_P(BuiltinCalibration, IsItsFileAndBelongsToACluster) {
  const Cluster cluster = load_cluster(GetParam());
  const Calibration built_in = calibration_of(cluster);
  EXPECT_EQ(built_in.cluster, GetParam());
  EXPECT_EQ(built_in.parameters, read_calibration_file(kFolder / (GetParam() + ".json")).parameters);
  for (const SourcedFigure& figure : built_in.figures) EXPECT_GE(figure.source.size(), 10) << figure.key;
}

TEST_P(BuiltinCalibration, ReadsBackFromItsJson) {
  const Calibration one = calibration_of(load_cluster(GetParam()));
  const Calibration again = parse_calibration(to_json(one).dump(), "again.json");
  EXPECT_EQ(again.parameters, one.parameters);
  EXPECT_EQ(to_json(again), to_json(one));
}

TEST_P(BuiltinCalibration, SaysSoWhereNothingWasCompared) {
  const Calibration one = calibration_of(load_cluster(GetParam()));
  if (one.fitted) return;
  EXPECT_THAT(one.description, ::testing::HasSubstr("not fitted"));
  for (const double error : one.parameters.relative_error) EXPECT_EQ(error, CostParameters::kUnknownError);
}

INSTANTIATE_TEST_SUITE_P(All, BuiltinCalibration, ::testing::ValuesIn(builtin_calibrations()));

TEST(CalibrationFile, OnlyNdv4IsFitted) {
  for (const std::string& name : builtin_clusters()) {
    EXPECT_EQ(calibration_of(load_cluster(name)).fitted, name == "azure_ndv4_a100") << name;
  }
}

TEST(CalibrationFile, AClusterWithoutOneHasGenericParameters) {
  const Cluster cpu = load_cluster("cpu_host");
  const Calibration calibration = calibration_of(cpu);
  EXPECT_EQ(calibration.cluster, "cpu_host");
  EXPECT_FALSE(calibration.fitted);
  EXPECT_EQ(calibration.parameters, default_calibration(cpu).parameters);
  EXPECT_LT(calibration.parameters.compute.memory_efficiency, 0.2);
  for (const double error : calibration.parameters.relative_error) EXPECT_EQ(error, 0.5);
}

TEST(CalibrationFile, FiguresOfNdv4HaveTheirSources) {
  const Calibration calibration = calibration_of(load_cluster("azure_ndv4_a100"));
  const auto source_of = [&](std::string_view key) {
    const auto found = std::ranges::find(calibration.figures, key, &SourcedFigure::key);
    return found == calibration.figures.end() ? "" : found->source;
  };
  EXPECT_THAT(source_of("compute.matrix_efficiency"), ::testing::StartsWith("fitted to the published"));
  EXPECT_THAT(source_of("compute.launch_us"), ::testing::StartsWith("set by hand"));
  EXPECT_TRUE(std::isinf(calibration.parameters.intra_node.contention_peers));
  EXPECT_EQ(calibration.parameters.error_of(OperationKind::kEncode), 0.1);
  EXPECT_EQ(calibration.parameters.error_of(OperationKind::kSumCopies), 0.5);
}

TEST(CalibrationFile, ParametersOfOneKindReadBack) {
  Calibration calibration = calibration_of(load_cluster("one_h200"));
  calibration.parameters.kinds[static_cast<std::size_t>(OperationKind::kRoute)] = {.fixed_us = 12.5,
                                                                                   .time_factor = 3};
  calibration.parameters.relative_error[static_cast<std::size_t>(OperationKind::kRoute)] = 0.0625;
  calibration.parameters.issue_us[static_cast<std::size_t>(OperationKind::kAllToAll)] = 40.5;
  const Calibration again = parse_calibration(to_json(calibration).dump(), "again.json");
  EXPECT_EQ(again.parameters, calibration.parameters);
  EXPECT_TRUE(again.parameters.of(OperationKind::kRoute).has_value());
  EXPECT_EQ(to_json(again)["issue_us"].dump(), R"({"all_to_all":40.5})");
}

// A file without them: no pass was compared.
TEST(CalibrationFile, ErrorsOfPassesAreOptional) {
  nlohmann::json json = ndv4();
  json.erase("pass_relative_error");
  EXPECT_THAT(parse_calibration(json.dump(), "x.json").parameters.pass_relative_error,
              ::testing::ElementsAre(0, 0));
  EXPECT_FALSE(to_json(parse_calibration(json.dump(), "x.json")).contains("pass_relative_error"));
  json["pass_relative_error"] = {{"2dh", {{"value", 0.25}, {"source", "nothing but a test"}}}};
  const Calibration one = parse_calibration(json.dump(), "x.json");
  EXPECT_EQ(one.parameters.pass_error(AllToAllAlgorithm::kLinear), 0);
  EXPECT_EQ(one.parameters.pass_error(AllToAllAlgorithm::kHierarchical2d), 0.25);
  EXPECT_EQ(one.figures.back().key, "pass_relative_error.2dh");
  EXPECT_EQ(one.figures.back().source, "nothing but a test");
  const nlohmann::ordered_json again = to_json(one);
  EXPECT_EQ(again["pass_relative_error"].dump(),
            R"({"linear":0.0,"2dh":{"value":0.25,"source":"nothing but a test"}})");
  EXPECT_EQ(parse_calibration(again.dump(), "again.json").parameters, one.parameters);
}

TEST(CalibrationFile, FilesReadBack) {
  const std::filesystem::path file = std::filesystem::path(::testing::TempDir()) / "flex_calibration.json";
  const Calibration one = calibration_of(load_cluster("azure_ndv4_a100"));
  write_calibration_file(file, one);
  EXPECT_EQ(read_calibration_file(file).parameters, one.parameters);
  std::filesystem::remove(file);
}

TEST(CalibrationFile, RefusesWhatCannotBe) {
  EXPECT_EQ(error_with("/compute/matrix_efficiency", 0),
            "x.json: compute.matrix_efficiency: is 0; it must be above 0 and at most 100");
  EXPECT_EQ(error_with("/compute/launch_us", -1), "x.json: compute.launch_us: is -1; it must be at least 0");
  EXPECT_EQ(error_with("/overlap_2dh/compute_factor", 0.9),
            "x.json: overlap_2dh.compute_factor: is 0.9; it must be at least 1 and at most 100");
  EXPECT_EQ(error_with("/inter_node/contention_peers", 0),
            "x.json: inter_node.contention_peers: is 0; it must be above 0");
  EXPECT_EQ(error_with("/kinds", {{"route", {{"fixed_us", 1}, {"time_factor", -1}}}}),
            "x.json: kinds.route.time_factor: is -1; it must be at least 0");
  EXPECT_EQ(error_with("/pass_relative_error/linear", -0.5),
            "x.json: pass_relative_error.linear: is -0.5; it must be at least 0");
}

TEST(CalibrationFile, RefusesUnknownKeysWithTheNearest) {
  EXPECT_EQ(error_with("/compute/launch_ns", 1),
            "x.json: compute.launch_ns: unknown key; did you mean \"launch_us\"?");
  EXPECT_EQ(error_with("/relative_error/expert_fnn", 0.1),
            "x.json: relative_error.expert_fnn: is no operation; did you mean expert_ffn?");
  EXPECT_EQ(error_with("/pass_relative_error/linaer", 0.1),
            "x.json: pass_relative_error.linaer: unknown key; did you mean \"linear\"?");
  EXPECT_EQ(error_with("/kinds", {{"zzz", nlohmann::json::object()}}), "x.json: kinds.zzz: is no operation");
}

TEST(CalibrationFile, RefusesMissingKeys) {
  nlohmann::json json = ndv4();
  json["inter_node"].erase("message_us");
  EXPECT_THAT(error_of(json), ::testing::StartsWith("x.json: inter_node.message_us: "));
  json = ndv4();
  json.erase("fitted");
  EXPECT_THAT(error_of(json), ::testing::StartsWith("x.json: fitted: "));
  EXPECT_EQ(error_with("/source", " "), "x.json: source: is empty");
}

}  // namespace
}  // namespace flex::testing
