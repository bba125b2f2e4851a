#include "cli/checks.h"

#include <fmt/format.h>

#include "base/atomic_file.h"

namespace flex::cli {
namespace {

template <class Holds>
CLI::Validator number_that(Holds holds, const char* words, const char* type) {
  return {[holds, words](const std::string& text) {
            double value = 0;
            const bool is_number = CLI::detail::lexical_cast(text, value);
            return is_number && holds(value) ? std::string()
                                             : fmt::format("is '{}'; it must be {}", text, words);
          },
          type};
}

}  // namespace

CLI::Validator positive_number() {
  return number_that([](double value) { return value > 0; }, "a number above 0", "POSITIVE");
}

CLI::Validator not_negative() {
  return number_that([](double value) { return value >= 0; }, "a number that is not below 0", "NONNEGATIVE");
}

void require_writable(const std::string& path) {
  if (!path.empty()) const AtomicFile removed_again(path);
}

}  // namespace flex::cli
