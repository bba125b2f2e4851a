#include "tests/structure/pages.h"

#include <gmock/gmock.h>

#include "tests/structure/tree_fixture.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::filesystem::path kSourceRoot = FLEX_SOURCE_DIR;

class Pages : public TreeFixture {};

TEST(HeadingAnchor, IsWhatGitHubMakesOfIt) {
  EXPECT_EQ(heading_anchor("Two commands"), "two-commands");
  EXPECT_EQ(heading_anchor("fp16: copy 4287 GB/s, r0 & `flexmoe tune`"),
            "fp16-copy-4287-gbs-r0--flexmoe-tune");
}

TEST_F(Pages, FollowsLinksToFilesFoldersAndHeadings) {
  write("README.md",
        "# Top\n[a](docs/a.md) [b](docs/a.md#more-of-it) [c](https://example.org/x) [d](#top) <img "
        "src=\"docs/a.png\">\n");
  write("docs/a.md",
        "## More of it\n## More of it\n[up](../README.md#top) [again](#more-of-it-1) [folder](../docs)\n");
  write("docs/a.png", "picture");
  EXPECT_THAT(to_strings(find_broken_links(root_)), IsEmpty());
}

TEST_F(Pages, NamesEachBrokenLink) {
  write("README.md", "text\n[a](docs/b.md) and [b](docs/a.md#les)\n<img src=\"docs/a.png\">\n");
  write("docs/a.md", "# Less\n");
  EXPECT_THAT(to_strings(find_broken_links(root_)),
              ElementsAre("README.md:2: links to docs/b.md, which is not there",
                          "README.md:2: links to docs/a.md#les, which has no such heading",
                          "README.md:3: links to docs/a.png, which is not there"));
}

TEST_F(Pages, CodeHasNoLinks) {
  write("README.md", "`x[i](docs/b.md)`\n```cpp\nf[i](docs/c.md)\n# no heading\n```\n[no](#no-heading)\n");
  EXPECT_THAT(to_strings(find_broken_links(root_)),
              ElementsAre("README.md:6: links to #no-heading, which has no such heading"));
}

TEST_F(Pages, NamesPagesThatNothingLeadsTo) {
  write("README.md", "[a](docs/a.md)\n");
  write("docs/a.md", "[b](b.md#x)\n");
  write("docs/b.md", "## x\n");
  write("docs/c.md", "[d](d.md)\n");
  write("docs/d.md", "[c](c.md)\n");
  write("examples/e.md", "found by its folder\n");
  EXPECT_THAT(to_strings(find_unreachable_pages(root_)),
              ElementsAre("docs/c.md:1: no chain of links from README.md leads here",
                          "docs/d.md:1: no chain of links from README.md leads here"));
}

TEST(FlexPages, LinksLeadSomewhere) { EXPECT_THAT(to_strings(find_broken_links(kSourceRoot)), IsEmpty()); }

TEST(FlexPages, AllAreReachable) { EXPECT_THAT(to_strings(find_unreachable_pages(kSourceRoot)), IsEmpty()); }

}  // namespace
}  // namespace flex
