#include "traces/report/report_page.h"

#include <fmt/format.h>

#include <utility>

#include "base/build_facts.h"
#include "traces/report/page_assets.h"
#include "traces/report/report_section.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kNumHighlights = 3;

// The browser holds the page to it: no request, no code but the page's own.
constexpr std::string_view kContentPolicy =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri "
    "'none'; "
    "form-action 'none'";

Palette palette_of(std::span<const ReportDocument> documents) {
  Palette palette;
  for (const ReportDocument& document : documents) add_names(document, palette);
  return palette;
}

std::string swatch_html(const LegendEntry& entry) {
  const std::string colour = escape_html(entry.colour);
  if (entry.shape == LegendEntry::Shape::kBox) {
    return fmt::format(
        "<svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" "
        "style=\"fill:{};"
        "stroke:var(--line)\"/></svg>",
        colour);
  }
  const Json dash = dash_of(entry.shape);
  return fmt::format(
      "<svg width=\"24\" height=\"10\" aria-hidden=\"true\"><path d=\"M0 5H24\" "
      "style=\"stroke:{};stroke-width:2.5;"
      "stroke-dasharray:{} {}\"/></svg>",
      colour, dash[0].get<int>(), dash[1].get<int>());
}

std::string legend_html(const std::vector<LegendEntry>& legend) {
  if (legend.empty()) return {};
  std::string html = "<ul class=\"legend\">";
  for (const LegendEntry& entry : legend) {
    html += fmt::format("<li>{}{}</li>", swatch_html(entry), escape_html(entry.label));
  }
  return html + "</ul>\n";
}

std::string chart_html(const Chart& chart, const std::string& caption, const std::string& id) {
  return fmt::format(
      "<figure id=\"{}\">\n<figcaption><h3>{}</h3></figcaption>\n{}<p class=\"note\">{}</p>\n{}<div "
      "class=\"choice\"></div>\n"
      "<div class=\"plot\" role=\"img\" aria-label=\"{}\"></div>\n"
      "<details><summary>Numbers</summary>\n{}</details>\n</figure>\n",
      id, escape_html(chart.title),
      caption.empty() ? "" : fmt::format("<p class=\"scenario\">{}</p>\n", escape_html(caption)),
      escape_html(chart.note), legend_html(chart.legend), escape_html(chart.description),
      table_html(chart.table));
}

/// Writes sections and collects what the page's script draws.
class PageBody {
 public:
  void add(const ReportSection& section, const std::string& file, std::size_t document) {
    html_ += fmt::format("<section>\n<h2>{}: {}</h2>\n<p class=\"headline\">{}</p>\n<ul class=\"short\">",
                         escape_html(section.kind), escape_html(file), escape_html(section.headline));
    for (const std::string& line : section.highlights) html_ += fmt::format("<li>{}</li>", escape_html(line));
    html_ += "</ul>\n<h3>Summary</h3>\n" + table_html(section.summary, document);
    for (const std::string& note : section.notes) {
      html_ += fmt::format("<p class=\"notes\">{}</p>\n", escape_html(note));
    }
    for (const ChartRow& row : section.rows) add_row(row);
    html_ += "</section>\n";
  }

  [[nodiscard]] const std::string& html() const { return html_; }
  [[nodiscard]] const Json& charts() const { return charts_; }

 private:
  void add_row(const ChartRow& row) {
    html_ += fmt::format("<div class=\"row{}\">\n", row.charts.size() > 1 ? " several" : "");
    for (std::size_t i = 0; i < row.charts.size(); ++i) {
      const Chart& chart = row.charts[i];
      const std::string id = fmt::format("chart-{}", charts_.size());
      html_ += chart_html(chart, row.captions[i], id);
      Json one = {{"id", id}, {"spec", chart.spec}};
      if (chart.choice) {
        one["choice"] = {{"signal", chart.choice->signal},
                         {"label", chart.choice->label},
                         {"options", chart.choice->options}};
      }
      charts_.push_back(std::move(one));
    }
    html_ += "</div>\n";
  }

  std::string html_;
  Json charts_ = Json::array();
};

}  // namespace

std::string report_page(std::span<const ReportDocument> documents, const std::string& vega) {
  const Palette palette = palette_of(documents);
  PageBody body;
  std::string title = "Flex report";
  for (std::size_t i = 0; i < documents.size(); ++i) {
    body.add(section_of(documents[i], palette), documents[i].file, i);
    title += fmt::format("{}{}", i == 0 ? ": " : ", ", documents[i].file);
  }
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<title>{}</title>\n<style>\n",
      kContentPolicy, escape_html(title));
  page += page_style();
  page += "</style>\n</head>\n<body>\n<main>\n<h1>Mixture-of-Experts layers: what plans bring</h1>\n";
  page += body.html();
  page += page_glossary();
  page += fmt::format("<footer>Made by flexmoe {}. Charts by Vega.</footer>\n</main>\n",
                      escape_html(build_facts().version));
  page += fmt::format("<script type=\"application/json\" id=\"charts\">{}</script>\n",
                      script_json(body.charts()));
  page += "<script>\n" + vega;
  page += page_script();
  return page + "</script>\n</body>\n</html>\n";
}

std::vector<std::string> report_highlights(std::span<const ReportDocument> documents) {
  const Palette palette = palette_of(documents);
  std::vector<ReportSection> sections;
  for (const ReportDocument& document : documents) sections.push_back(section_of(document, palette));
  std::vector<std::string> lines;
  for (std::size_t line = 0; line < kNumHighlights; ++line) {
    for (std::size_t i = 0; i < sections.size() && lines.size() < kNumHighlights; ++i) {
      if (line >= sections[i].highlights.size()) continue;
      lines.push_back(sections.size() == 1
                          ? sections[i].highlights[line]
                          : fmt::format("{}: {}", documents[i].file, sections[i].highlights[line]));
    }
  }
  return lines;
}

}  // namespace flex
