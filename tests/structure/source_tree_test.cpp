#include "tests/structure/source_tree.h"

#include <gmock/gmock.h>

#include <iostream>
#include <string_view>

#include "tests/structure/tree_fixture.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::filesystem::path kSourceRoot = FLEX_SOURCE_DIR;

class SourceTree : public TreeFixture {};

TEST_F(SourceTree, IncludesMayGoDownwardsAndSideways) {
  write("base/log.h", "#include <vector>\n#include <fmt/format.h>\n");
  write("costmodel/plan.cpp", "#include \"costmodel/plan.h\"\n#include \"base/log.h\"\n");
  write("tests/costmodel/plan_test.cpp",
        "#include \"cli/options.h\"\n#include \"tests/support/tensors.h\"\n");
  EXPECT_THAT(to_strings(find_upward_includes(root_)), IsEmpty());
}

TEST_F(SourceTree, NamesEachIncludeThatGoesUpwards) {
  write("base/log.h", "#pragma once\n\n#include \"kernels/tensor.h\"\n");
  write("kernels/moe/gate.cu", "  #  include <runtime/communicator.h>\n");
  write("models/trainer.cpp", "#include \"tests/support/tensors.h\"\n");
  write("runtime/launch.cpp", "#include \"launch.h\"\n");
  write("build/generated.cpp", "#include \"generated.h\"\n");
  EXPECT_THAT(
      to_strings(find_upward_includes(root_)),
      ElementsAre(
          "base/log.h:3: base/ includes \"kernels/tensor.h\"; kernels/ stands above it",
          "kernels/moe/gate.cu:1: kernels/ includes \"runtime/communicator.h\"; runtime/ stands above it",
          "models/trainer.cpp:1: models/ includes \"tests/support/tensors.h\"; nothing includes tests/",
          "runtime/launch.cpp:1: includes \"launch.h\" without its folder"));
}

TEST_F(SourceTree, NamesEachPathOfOneMachine) {
  const std::string home = std::string("/ho") + "me/somebody/cache";
  write("docs/setup.md", "fine: https://example.org" + home + "\n" + "write to " + home + "\n");
  write("golden.bin", std::string_view("\0 /ho"
                                       "me/",
                                       8));
  EXPECT_THAT(to_strings(find_machine_paths(root_)),
              ElementsAre("docs/setup.md:2: holds a path of one machine, '/ho"
                          "me/'"));
}

TEST_F(SourceTree, NamesFilesThatAreTooLong) {
  write("base/long.cpp", "1\n2\n3\n");
  write("base/short.cpp", "1\n2\n");
  EXPECT_THAT(to_strings(find_long_files(root_, 2)),
              ElementsAre("base/long.cpp:3: longer than 2 lines: has it one subject?"));
}

TEST_F(SourceTree, NamesTypesOfOneName) {
  write("costmodel/shape.h",
        "namespace flex {\nstruct Shape;\nstruct Shape {\n  struct Row {\n  };\n};\n}\n");
  write(
      "profiler/shape.h",
      "namespace flex {\nnamespace cupti {\nclass Shape {\n};\n}  // namespace cupti\nclass Line {\n};\n}\n");
  write("tuner/shape.h",
        "namespace flex {\nclass Shape final : public Base {\n};\nstruct Row {};\nclass Line {\n};\n}\n");
  write("tuner/shape.cpp", "namespace flex {\nstruct Row {\n};\n}\n");
  EXPECT_THAT(to_strings(find_repeated_type_names(root_)),
              ElementsAre("tuner/shape.h:2: flex::Shape is the name of a type in costmodel/shape.h too",
                          "tuner/shape.h:5: flex::Line is the name of a type in profiler/shape.h too"));
}

TEST(FlexTree, TypesHaveNamesOfTheirOwn) {
  EXPECT_THAT(to_strings(find_repeated_type_names(kSourceRoot)), IsEmpty());
}

TEST(FlexTree, IncludesGoOnlyDownwards) {
  EXPECT_THAT(to_strings(find_upward_includes(kSourceRoot)), IsEmpty());
}

TEST(FlexTree, HoldsNoPathOfOneMachine) {
  EXPECT_THAT(to_strings(find_machine_paths(kSourceRoot)), IsEmpty());
}

// A warning only: some subjects need the room.
TEST(FlexTree, LongFilesAreNamed) {
  for (const std::string& finding : to_strings(find_long_files(kSourceRoot, 450))) {
    std::cerr << "warning: " << finding << "\n";
  }
}

}  // namespace
}  // namespace flex
