#include "traces/report/html.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace flex {
namespace {

// The places of the figures are for programs that compare the page with the document.
std::string attributes_of(const HtmlCell& cell, std::size_t document) {
  if (cell.at.empty()) return {};
  return fmt::format(" data-document=\"{}\" data-at=\"{}\" data-value=\"{}\"", document, escape_html(cell.at),
                     escape_html(cell.value));
}

std::string row_html(const HtmlTable& table, const std::vector<HtmlCell>& row, std::size_t document) {
  std::string html = "<tr>";
  for (std::size_t c = 0; c < row.size(); ++c) {
    const char* tag = c == 0 ? "th scope=\"row\"" : "td";
    html += fmt::format("<{}{}{}>{}</{}>", tag, c < table.num_names ? " class=\"name\"" : "",
                        attributes_of(row[c], document), escape_html(row[c].text), c == 0 ? "th" : "td");
  }
  return html + "</tr>\n";
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string script_json(const nlohmann::ordered_json& value) {
  // These characters stand in JSON only inside strings, where an escape means the same.
  std::string escaped;
  for (const char c : value.dump(-1, ' ', true)) {
    if (c == '<' || c == '>' || c == '&') {
      escaped += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string table_html(const HtmlTable& table, std::size_t document) {
  std::string html = "<div class=\"scroll\" tabindex=\"0\"><table>\n";
  if (!table.caption.empty()) html += fmt::format("<caption>{}</caption>\n", escape_html(table.caption));
  html += "<thead><tr>";
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    html += fmt::format("<th scope=\"col\"{}>{}</th>", c < table.num_names ? " class=\"name\"" : "",
                        escape_html(table.columns[c]));
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const std::vector<HtmlCell>& row : table.rows) html += row_html(table, row, document);
  return html + "</tbody></table></div>\n";
}

}  // namespace flex
