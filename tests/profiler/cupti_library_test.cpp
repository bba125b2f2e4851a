#include "profiler/cupti_library.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace flex {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string failure_of(const std::vector<std::string>& paths) {
  return std::get<std::string>(open_cupti(paths));
}

TEST(CuptiLibrary, ThatIsNotThereIsNamed) {
  EXPECT_THAT(failure_of({"libno_such_cupti.so.1", "/nowhere/libcupti.so"}),
              AllOf(HasSubstr("CUPTI could not be loaded: "), HasSubstr("libno_such_cupti.so.1"),
                    HasSubstr("/nowhere/libcupti.so")));
  EXPECT_EQ(failure_of({}), "no CUPTI library was named");
}

TEST(CuptiLibrary, ThatIsAnotherLibraryIsNotTaken) {
  EXPECT_THAT(failure_of({"libno_such_cupti.so.1", "libm.so.6"}),
              AllOf(HasSubstr("libm.so.6 is not a CUPTI that can be used: it lacks cuptiGetVersion, "),
                    HasSubstr("cuptiFinalize")));
}

#ifndef FLEX_HAS_CUPTI
TEST(CuptiLibrary, IsNotLookedForInABuildWithout) {
  EXPECT_EQ(std::get<std::string>(load_cupti()), "this build has no CUPTI; configure with -DFLEX_CUPTI=ON");
}
#endif

TEST(CuptiLibrary, IsNotLoadedBeforeItIsAskedFor) {
  for (const char* name : {"libcupti.so", "libcupti.so.12", "libcupti.so.13"}) {
    EXPECT_EQ(dlopen(name, RTLD_NOW | RTLD_NOLOAD), nullptr) << name;
  }
}

TEST(CuptiLibrary, FailuresHaveCuptisNames) {
  cupti::Api api{};
  api.get_result_string = [](std::int32_t result, const char** text) -> std::int32_t {
    if (result != cupti::kInvalidKind) return 1;
    *text = "CUPTI_ERROR_INVALID_KIND";
    return cupti::kSuccess;
  };
  EXPECT_EQ(describe_cupti_failure(api, "cuptiActivityEnable", cupti::kInvalidKind),
            "cuptiActivityEnable: CUPTI_ERROR_INVALID_KIND");
  EXPECT_EQ(describe_cupti_failure(api, "cuptiFinalize", 4711), "cuptiFinalize: CUPTI's error 4711");
}

}  // namespace
}  // namespace flex
