#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

namespace flex::cli {
namespace {

// Columns that `text` takes on a terminal: continuation bytes of UTF-8 take none.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string padded(const std::string& text, std::size_t width, Align align) {
  const std::string space(width - std::min(width, width_of(text)), ' ');
  return align == Align::kRight ? space + text : text + space;
}

std::string three_digits(double value) {
  if (value == 0 || !std::isfinite(value)) return fmt::format("{:.0f}", value);
  const int digits = static_cast<int>(std::floor(std::log10(std::abs(value))));
  return fmt::format("{:.{}f}", value, std::clamp(2 - digits, 0, 6));
}

std::string with_prefix(double value, double base, std::string_view unit) {
  constexpr std::array<std::string_view, 6> kPrefixes = {"", "k", "M", "G", "T", "P"};
  std::size_t prefix = 0;
  // 999.5 would be printed as four digits.
  while (std::abs(value) >= base * 0.9995 && prefix + 1 < kPrefixes.size()) {
    value /= base;
    ++prefix;
  }
  return fmt::format("{} {}{}", three_digits(value), kPrefixes[prefix], unit);
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add(std::vector<std::string> row) {
  row.resize(columns_.size());
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) widths.push_back(width_of(column.title));
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  }
  std::string text;
  const auto line = [&](auto cell) {
    std::string one;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      one += (c == 0 ? "" : "  ") + padded(cell(c), widths[c], columns_[c].align);
    }
    one.erase(one.find_last_not_of(' ') + 1);
    text += one + "\n";
  };
  line([&](std::size_t c) { return columns_[c].title; });
  line([&](std::size_t c) { return std::string(widths[c], '-'); });
  for (const auto& row : rows_) line([&](std::size_t c) { return row[c]; });
  return text;
}

std::string format_bytes(double bytes) { return with_prefix(bytes, 1000, "B"); }

std::string format_us(double us) {
  if (std::abs(us) < 999.5) return three_digits(us) + " us";
  if (std::abs(us) < 999.5e3) return three_digits(us * 1e-3) + " ms";
  return three_digits(us * 1e-6) + " s";
}

std::string format_count(double count) {
  std::string text = with_prefix(count, 1000, "");
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

}  // namespace flex::cli
