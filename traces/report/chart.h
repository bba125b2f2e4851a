#pragma once

#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "traces/report/html.h"

/// A figure of a report: a Vega specification with a legend and its numbers. Colours are variables of the
/// page's style sheet (page.css), so that one drawing serves light, dark and paper.
namespace flex {

struct LegendEntry {
  enum class Shape { kBox, kLine, kDashed, kDotted };
  std::string label;
  std::string colour;
  Shape shape = Shape::kBox;
};

/// A choice that the reader has: sets `signal` of the specification to the index of an option.
struct ChartChoice {
  std::string signal;
  std::string label;
  std::vector<std::string> options;
};

struct Chart {
  std::string title;
  std::string note;         ///< how to read it
  std::string description;  ///< for readers who do not see it
  nlohmann::ordered_json spec;
  std::vector<LegendEntry> legend;
  std::optional<ChartChoice> choice;
  HtmlTable table;  ///< the numbers
};

/// Colours of plans and policies: a name has the same one in every chart. A policy that is one plan has that
/// plan's colour.
class Palette {
 public:
  static constexpr std::size_t kNumColours = 10;

  /// Gives `name` the next colour, unless it has one. Names beyond kNumColours share a grey.
  void add(std::string_view name);
  /// Gives `alias` the colour of `name`: of a policy that turned out to be this plan.
  void add_alias(std::string_view alias, std::string_view name);
  [[nodiscard]] std::string colour(std::string_view name) const;
  /// Of text on that colour.
  [[nodiscard]] std::string text_colour(std::string_view name) const;
  /// How a line of `name` is drawn: lines of neighbouring colours differ in it, too.
  [[nodiscard]] LegendEntry::Shape line(std::string_view name) const;

 private:
  [[nodiscard]] std::size_t index(std::string_view name) const;
  std::vector<std::string> names_;
  std::map<std::string, std::string> aliases_;
};

/// Colour of a class of operations, by its name.
[[nodiscard]] std::string class_colour(std::string_view operation_class);
/// `exchange` -> `All-to-All`: what people call a class.
[[nodiscard]] std::string class_title(std::string_view operation_class);
/// Entries for all classes that are there.
[[nodiscard]] std::vector<LegendEntry> class_legend(const std::vector<std::string>& classes);

/// Vega's strokeDash.
[[nodiscard]] nlohmann::ordered_json dash_of(LegendEntry::Shape shape);

/// Unit of an axis of durations up to `max_us`.
struct TimeUnit {
  std::string name;
  double us = 1;
};
[[nodiscard]] TimeUnit time_unit(double max_us);

/// A specification of this height as wide as the page makes it, with `marks`, `axes` and `scales` to be
/// filled.
[[nodiscard]] nlohmann::ordered_json vega_spec(int height);
[[nodiscard]] nlohmann::ordered_json vega_data(std::string_view name, nlohmann::ordered_json rows);
[[nodiscard]] nlohmann::ordered_json vega_axis(std::string_view scale, std::string_view orient,
                                               std::string_view title);

/// One mark of this type for each row of `data`. Text does not stand between the pointer and what is below
/// it.
[[nodiscard]] nlohmann::ordered_json vega_mark(std::string_view type, std::string_view data,
                                               nlohmann::ordered_json update);

/// Indices of at most `most` of `count` rows, evenly picked, the last included.
[[nodiscard]] std::vector<std::size_t> picked_rows(std::size_t count, std::size_t most = 100);
/// What a table that leaves rows out says of it; else nothing.
[[nodiscard]] std::string picked_text(std::size_t count, std::size_t most = 100);

/// Three digits, `+1.2%` with a sign if `is_signed`; a dash for nothing.
[[nodiscard]] std::string percent_text(std::optional<double> share, bool is_signed = false);
[[nodiscard]] std::string factor_text(std::optional<double> factor);

}  // namespace flex
