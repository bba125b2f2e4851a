#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/read_file.h"
#include "tests/fuzz/fuzz.h"

// flex_fuzz_NAME_replay MUTATIONS FILE_OR_FOLDER...
// Gives a fuzz target every file, then as many mutations of them, the same ones in every run: what a compiler
// without libFuzzer can do of fuzzing. An input that fails is kept in the working directory.
namespace {

constexpr std::int64_t kMostBytes = std::int64_t{1} << 20;

std::vector<std::string> read_seeds(const std::vector<std::string>& paths) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  std::vector<std::string> seeds;
  for (const std::filesystem::path& file : files) seeds.push_back(flex::read_file(file, kMostBytes));
  return seeds;
}

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {}

  /// A seed with one to four changes.
  std::string next() {
    std::string text = seeds_[below(seeds_.size())];
    for (std::size_t change = 0, count = 1 + below(4); change < count; ++change) mutate(text);
    return text;
  }

 private:
  // Modulo instead of a distribution: the same numbers with every standard library.
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  void mutate(std::string& text) {
    static const std::vector<std::string> words = {"-1",   "0",   "1e400", "9223372036854775808",
                                                   "null", "{}",  "[]",    "\"\"",
                                                   "true", "nan", "\n",    "0.5",
                                                   "\xFF", "{",   "}",     "[",
                                                   ",",    ":"};
    const std::size_t at = below(text.size());
    const std::size_t length = std::min(text.size() - at, 1 + below(16));
    switch (below(8)) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(below(text.size()), 1 + below(64)));
        break;
      case 3:
        text.replace(at, length, words[below(words.size())]);
        break;
      case 4: {  // the end of another seed
        const std::string& other = seeds_[below(seeds_.size())];
        text = text.substr(0, at) + other.substr(below(other.size()));
        break;
      }
      case 5:
        if (below(8) == 0) text.resize(at);
        break;
      default:
        replace_number(text, at);
        break;
    }
  }

  // The next number of a text becomes another one: what is around it stays as its format wants it.
  void replace_number(std::string& text, std::size_t at) {
    static const std::vector<std::string> numbers = {
        "0",   "1",    "-1",     "2",          "3",
        "7",   "255",  "65536",  "2147483648", "9223372036854775807",
        "0.5", "-0.5", "1e-300", "1e300",      "1099511627776"};
    constexpr const char* kDigits = "0123456789";
    const std::size_t begin = text.find_first_of(kDigits, at);
    if (begin == std::string::npos) return;
    const std::size_t end = std::min(text.find_first_not_of(std::string(kDigits) + ".", begin), text.size());
    text.replace(begin, end - begin, numbers[below(numbers.size())]);
  }

  std::vector<std::string> seeds_;
  std::mt19937_64 random_{1};
};

bool survives(const std::string& input) {
  try {
    fuzz_one(input);
    return true;
  } catch (const std::exception& error) {
    std::ofstream("failed_input", std::ios::binary) << input;
    fmt::print(stderr, "{}\nthe input is kept in {}\n", error.what(),
               (std::filesystem::current_path() / "failed_input").string());
    return false;
  }
}

}  // namespace

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): ends a test that cannot begin
  if (argc < 3) {
    fmt::print(stderr, "usage: {} MUTATIONS FILE_OR_FOLDER...\n", argv[0]);
    return 2;
  }
  const std::vector<std::string> seeds = read_seeds({argv + 2, argv + argc});
  if (seeds.empty()) {
    fmt::print(stderr, "the corpus is empty\n");
    return 2;
  }
  const int num_mutations = std::atoi(argv[1]);  // NOLINT(cert-err34-c): of our own CMakeLists.txt
  Mutator mutator(seeds);
  if (!std::ranges::all_of(seeds, survives)) return 1;
  for (int i = 0; i < num_mutations; ++i) {
    if (!survives(mutator.next())) return 1;
  }
  fmt::print("{} seeds and {} mutations of them were read or refused\n", seeds.size(), num_mutations);
}
