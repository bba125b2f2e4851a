#include "traces/report/html.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace flex {
namespace {

TEST(Html, EscapesWhatMarkupIsMadeOf) {
  EXPECT_EQ(escape_html("<a href='x'>\"&\" – 1×"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot; – 1×");
}

TEST(Html, JsonInAScriptCannotEndItAndReadsBackEqual) {
  const nlohmann::ordered_json value = {{"</script><script>alert(1)//", {"<!--", "a & b", "–", 0.1}}};
  const std::string text = script_json(value);
  EXPECT_EQ(text.find_first_of("<>&"), std::string::npos) << text;
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; })) << text;
  EXPECT_EQ(nlohmann::ordered_json::parse(text), value);
}

TEST(Html, TableEscapesItsTextsAndSaysWhereItsFiguresAre) {
  const HtmlTable table{.caption = "<c>",
                        .columns = {"policy", "<time>"},
                        .rows = {{{"a<b"}, {.text = "1.5 s", .at = "/x/0", .value = "1500000.0"}}}};
  EXPECT_EQ(table_html(table, 2),
            "<div class=\"scroll\" tabindex=\"0\"><table>\n<caption>&lt;c&gt;</caption>\n"
            "<thead><tr><th scope=\"col\" class=\"name\">policy</th><th "
            "scope=\"col\">&lt;time&gt;</th></tr></thead>\n"
            "<tbody>\n<tr><th scope=\"row\" class=\"name\">a&lt;b</th>"
            "<td data-document=\"2\" data-at=\"/x/0\" data-value=\"1500000.0\">1.5 s</td></tr>\n"
            "</tbody></table></div>\n");
}

}  // namespace
}  // namespace flex
