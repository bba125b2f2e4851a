#include <algorithm>

#include "kernels/matrix_map.h"
#include "kernels/moe/gshard_einsum.h"

namespace flex {
namespace {

// The mask as a (T, E * C) matrix.
template <class T>
ConstMatrixMap<T> mask_matrix(const ConstTensorView& mask) {
  return {mask.as<T>(), mask.size(0), mask.size(1) * mask.size(2)};
}
template <class T>
MatrixMap<T> mask_matrix(const TensorView& mask) {
  return {mask.as<T>(), mask.size(0), mask.size(1) * mask.size(2)};
}

}  // namespace

template <class T>
void gshard_mask_cpu(const GshardMaskArgs& args) {
  std::fill_n(args.mask.as<T>(), args.mask.num_elements(), T(0));
  for (std::int64_t token = 0; token < args.indices.size(0); ++token) {
    for (std::int64_t choice = 0; choice < args.indices.size(1); ++choice) {
      const std::int64_t location = args.locations.slice<std::int32_t>(token)[choice];
      if (location >= args.capacity) continue;
      const std::int64_t expert = args.indices.slice<std::int32_t>(token)[choice];
      const T gate = args.gates.present() ? args.gates.slice<T>(token)[choice] : T(1);
      args.mask.slice<T>(token)[expert * args.capacity + location] = gate;
    }
  }
}

template <class T>
void gshard_mask_backward_cpu(const GshardMaskBackwardArgs& args) {
  const std::int64_t capacity = args.dmask.size(2);
  for (std::int64_t token = 0; token < args.indices.size(0); ++token) {
    for (std::int64_t choice = 0; choice < args.indices.size(1); ++choice) {
      const std::int64_t location = args.locations.slice<std::int32_t>(token)[choice];
      const std::int64_t expert = args.indices.slice<std::int32_t>(token)[choice];
      args.dgates.slice<T>(token)[choice] =
          location < capacity ? args.dmask.slice<T>(token)[expert * capacity + location] : T(0);
    }
  }
}

template <class T>
void gshard_encode_cpu(const GshardEncodeArgs& args) {
  multiply(as_matrix<T>(args.buffer), mask_matrix<T>(args.mask).transpose(), as_matrix<T>(args.x));
}

template <class T>
void gshard_decode_cpu(const GshardDecodeArgs& args) {
  multiply(as_matrix<T>(args.y), mask_matrix<T>(args.mask), as_matrix<T>(args.buffer));
}

template <class T>
void gshard_decode_backward_mask_cpu(const GshardDecodeBackwardMaskArgs& args) {
  multiply(mask_matrix<T>(args.dmask), as_matrix<T>(args.dy), as_matrix<T>(args.buffer).transpose());
}

template void gshard_mask_cpu<float>(const GshardMaskArgs&);
template void gshard_mask_cpu<double>(const GshardMaskArgs&);
template void gshard_mask_backward_cpu<float>(const GshardMaskBackwardArgs&);
template void gshard_mask_backward_cpu<double>(const GshardMaskBackwardArgs&);
template void gshard_encode_cpu<float>(const GshardEncodeArgs&);
template void gshard_encode_cpu<double>(const GshardEncodeArgs&);
template void gshard_decode_cpu<float>(const GshardDecodeArgs&);
template void gshard_decode_cpu<double>(const GshardDecodeArgs&);
template void gshard_decode_backward_mask_cpu<float>(const GshardDecodeBackwardMaskArgs&);
template void gshard_decode_backward_mask_cpu<double>(const GshardDecodeBackwardMaskArgs&);

}  // namespace flex
