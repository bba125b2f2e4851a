#pragma once

#include <string>
#include <vector>

#include "base/figures.h"

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

}  // namespace flex::cli
