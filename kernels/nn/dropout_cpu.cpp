#include "kernels/matrix_map.h"
#include "kernels/nn/dropout.h"
#include "kernels/nn/dropout_words.h"

namespace flex {

template <class T>
void dropout_cpu(const DropoutArgs& args) {
  constexpr std::int64_t kWords = 4;  // that one call of Philox gives
  constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;
  const auto kept = static_cast<T>(1.0 / (1.0 - args.rate));
  for (std::int64_t row = 0; row < args.x.size(0); ++row) {
    const auto x = row_of<T>(args.x, row);
    auto y = row_of<T>(args.y, row);
    for (std::int64_t channel = 0; channel < args.x.size(1); ++channel) {
      const PhiloxBlock block =
          dropout_words(args.seed, args.iteration, args.layer, args.first_row + row, channel / kWords);
      const bool drops = static_cast<double>(block.words[channel % kWords]) * kTwoToMinus32 < args.rate;
      y[channel] = drops ? T(0) : kept * x[channel];
    }
  }
}

template void dropout_cpu<float>(const DropoutArgs&);
template void dropout_cpu<double>(const DropoutArgs&);

}  // namespace flex
