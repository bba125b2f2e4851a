#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

/// Pieces of an HTML page. Texts come from files of other people: all that goes into markup goes through
/// escape_html() or script_json().
namespace flex {

/// `text` as content of an element or of a quoted attribute.
[[nodiscard]] std::string escape_html(std::string_view text);

/// `value` as the content of a script element: JSON in ASCII without `<`, `>` or `&`, so that nothing in it
/// ends the element.
[[nodiscard]] std::string script_json(const nlohmann::ordered_json& value);

/// A cell of a table. A figure that stands in a document as it is says where.
struct HtmlCell {
  std::string text;
  std::string at;     ///< JSON pointer into the document; empty: nowhere
  std::string value;  ///< of the figure there, with all its digits
};

struct HtmlTable {
  std::string caption;
  std::vector<std::string> columns;
  std::vector<std::vector<HtmlCell>> rows;
  /// Columns from the left that are names: they are aligned to the left, and the first heads its row.
  std::size_t num_names = 1;
};

/// A table element in an element that scrolls sideways. `document`: that `at` of its cells points into.
[[nodiscard]] std::string table_html(const HtmlTable& table, std::size_t document = 0);

}  // namespace flex
