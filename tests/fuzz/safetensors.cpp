#include "base/error.h"
#include "base/safetensors_parse.h"
#include "tests/fuzz/fuzz.h"

/// The bytes of a file of tensors. Those of a file that is taken can be read.
void fuzz_one(std::string_view input) {
  try {
    const flex::SafetensorsContent content =
        flex::parse_safetensors(std::as_bytes(std::span(input)), "file.safetensors");
    for (const flex::SafetensorsTensor& tensor : content.tensors) {
      const std::byte* const begin = tensor.bytes.data();
      const auto* const data = reinterpret_cast<const std::byte*>(input.data());
      flex::testing::require_promise(
          tensor.bytes.empty() || (begin >= data && begin + tensor.bytes.size() <= data + input.size()),
          tensor.name + " lies in the file");
      if (tensor.dtype == flex::SafetensorsDType::kF32) (void)tensor.values<float>();
    }
  } catch (const flex::InputError&) {  // NOLINT(bugprone-empty-catch): refused, as promised
  }
}
