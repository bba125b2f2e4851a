#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/structure/source_tree.h"

namespace flex {

/// What findings say, for a comparison with lists of texts.
inline std::vector<std::string> to_strings(const std::vector<TreeFinding>& findings) {
  std::vector<std::string> texts;
  for (const TreeFinding& finding : findings) texts.push_back(to_string(finding));
  return texts;
}

/// A tree of one test's own, removed with the test.
class TreeFixture : public ::testing::Test {
 protected:
  TreeFixture() { std::filesystem::remove_all(root_); }
  ~TreeFixture() override { std::filesystem::remove_all(root_); }

  void write(const std::filesystem::path& file, std::string_view text) const {
    std::filesystem::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }

  const ::testing::TestInfo& test_ = *::testing::UnitTest::GetInstance()->current_test_info();
  const std::filesystem::path root_ = std::filesystem::path(::testing::TempDir()) /
                                      (std::string("flex_") + test_.test_suite_name() + "_" + test_.name());
};

}  // namespace flex
