#include <algorithm>

#include "kernels/nn/cast.h"

namespace flex {
namespace {

template <class To, class From>
void cast_elements(const CastArgs& args) {
  const From* from = args.from.as<From>();
  std::transform(from, from + args.from.num_elements(), args.to.as<To>(),
                 [](From value) { return static_cast<To>(value); });
}

}  // namespace

void cast_cpu(const CastArgs& args) {
  const bool from_double = args.from.dtype == DType::kF64;
  if (args.to.dtype == DType::kF64) {
    from_double ? cast_elements<double, double>(args) : cast_elements<double, float>(args);
  } else {
    from_double ? cast_elements<float, double>(args) : cast_elements<float, float>(args);
  }
}

}  // namespace flex
