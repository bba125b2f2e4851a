#include "base/safetensors_dtype.h"

#include <array>

namespace flex {
namespace {

struct DTypeFacts {
  std::string_view name;
  std::int64_t element_bytes;
};

// In the order of the enumerators.
constexpr std::array<DTypeFacts, 15> kFacts = {{{"BOOL", 1},
                                                {"U8", 1},
                                                {"I8", 1},
                                                {"F8_E5M2", 1},
                                                {"F8_E4M3", 1},
                                                {"I16", 2},
                                                {"U16", 2},
                                                {"F16", 2},
                                                {"BF16", 2},
                                                {"I32", 4},
                                                {"U32", 4},
                                                {"F32", 4},
                                                {"F64", 8},
                                                {"I64", 8},
                                                {"U64", 8}}};
static_assert(kFacts.size() == static_cast<std::size_t>(SafetensorsDType::kU64) + 1);

}  // namespace

std::string_view name_of(SafetensorsDType dtype) { return kFacts[static_cast<std::size_t>(dtype)].name; }

std::optional<SafetensorsDType> parse_safetensors_dtype(std::string_view name) {
  for (std::size_t i = 0; i < kFacts.size(); ++i) {
    if (kFacts[i].name == name) return static_cast<SafetensorsDType>(i);
  }
  return std::nullopt;
}

std::int64_t element_bytes(SafetensorsDType dtype) {
  return kFacts[static_cast<std::size_t>(dtype)].element_bytes;
}

}  // namespace flex
