#include "kernels/matrix_map.h"
#include "kernels/moe/encode.h"
#include "kernels/moe/slots.h"

namespace flex {

template <class T>
void encode_cpu(const EncodeArgs& args) {
  const std::int64_t tokens = args.x.size(0);
  const std::int64_t top_k = args.indices.size(1);
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t choice = 0; choice < top_k; ++choice) {
      const std::int64_t location = args.locations.slice<std::int32_t>(token)[choice];
      if (location >= args.capacity) continue;
      const std::int64_t expert = args.indices.slice<std::int32_t>(token)[choice];
      const T gate = args.gates.present() ? args.gates.slice<T>(token)[choice] : T(1);
      row_of<T>(args.buffer, args.layout.row(expert, location)) = gate * row_of<T>(args.x, token);
    }
  }
  zero_unused_slots<T>(args.layout, args.capacity, args.counts, args.buffer);
}

template <class T>
void encode_backward_cpu(const EncodeBackwardArgs& args) {
  const std::int64_t tokens = args.dx.size(0);
  const std::int64_t top_k = args.indices.size(1);
  for (std::int64_t token = 0; token < tokens; ++token) {
    auto dx = row_of<T>(args.dx, token);
    if (!args.accumulate_dx) dx.setZero();
    for (std::int64_t choice = 0; choice < top_k; ++choice) {
      const std::int64_t location = args.locations.slice<std::int32_t>(token)[choice];
      const bool kept = location < args.capacity;
      if (args.gates.present() && !kept) args.dgates.slice<T>(token)[choice] = T(0);
      if (!kept) continue;
      const std::int64_t expert = args.indices.slice<std::int32_t>(token)[choice];
      const auto slot = row_of<T>(args.dbuffer, args.layout.row(expert, location));
      const T gate = args.gates.present() ? args.gates.slice<T>(token)[choice] : T(1);
      dx += gate * slot;
      if (args.gates.present()) args.dgates.slice<T>(token)[choice] = row_of<T>(args.x, token).dot(slot);
    }
  }
}

template void encode_cpu<float>(const EncodeArgs&);
template void encode_cpu<double>(const EncodeArgs&);
template void encode_backward_cpu<float>(const EncodeBackwardArgs&);
template void encode_backward_cpu<double>(const EncodeBackwardArgs&);

}  // namespace flex
