#pragma once

#include <string>
#include <vector>

namespace flex::cli {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kRight;
};

/// Rows under titles, columns as wide as their widest cell, two spaces apart; a rule below the titles.
class Table {
 public:
  explicit Table(std::vector<Column> columns);
  /// Cells that are missing at the end stay empty.
  void add(std::vector<std::string> row);
  [[nodiscard]] std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// `1.23 MB`: three digits and a decimal unit.
[[nodiscard]] std::string format_bytes(double bytes);
/// `845 us`, `1.23 ms`, `4.56 s`: three digits.
[[nodiscard]] std::string format_us(double us);
/// Three digits with a decimal prefix: `1.23 M`.
[[nodiscard]] std::string format_count(double count);

}  // namespace flex::cli
