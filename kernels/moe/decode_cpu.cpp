#include "kernels/matrix_map.h"
#include "kernels/moe/decode.h"
#include "kernels/moe/slots.h"

namespace flex {

template <class T>
void decode_cpu(const DecodeArgs& args) {
  const std::int64_t tokens = args.y.size(0);
  const std::int64_t top_k = args.indices.size(1);
  for (std::int64_t token = 0; token < tokens; ++token) {
    auto y = row_of<T>(args.y, token);
    y.setZero();
    for (std::int64_t choice = 0; choice < top_k; ++choice) {
      const std::int64_t location = args.locations.slice<std::int32_t>(token)[choice];
      if (location >= args.capacity) continue;
      const std::int64_t expert = args.indices.slice<std::int32_t>(token)[choice];
      const T gate = args.gates.present() ? args.gates.slice<T>(token)[choice] : T(1);
      y += gate * row_of<T>(args.buffer, args.layout.row(expert, location));
    }
  }
}

template <class T>
void decode_backward_cpu(const DecodeBackwardArgs& args) {
  const std::int64_t tokens = args.dy.size(0);
  const std::int64_t top_k = args.indices.size(1);
  for (std::int64_t token = 0; token < tokens; ++token) {
    const auto dy = row_of<T>(args.dy, token);
    for (std::int64_t choice = 0; choice < top_k; ++choice) {
      const std::int64_t location = args.locations.slice<std::int32_t>(token)[choice];
      const bool kept = location < args.capacity;
      if (args.gates.present() && !kept) args.dgates.slice<T>(token)[choice] = T(0);
      if (!kept) continue;
      const std::int64_t expert = args.indices.slice<std::int32_t>(token)[choice];
      // The slot is read before it is written: dbuffer may be buffer itself, and a slot belongs to one
      // choice.
      if (args.gates.present()) {
        const auto slot = row_of<T>(args.buffer, args.buffer_layout.row(expert, location));
        args.dgates.slice<T>(token)[choice] = dy.dot(slot);
      }
      const T gate = args.gates.present() ? args.gates.slice<T>(token)[choice] : T(1);
      row_of<T>(args.dbuffer, args.dbuffer_layout.row(expert, location)) = gate * dy;
    }
  }
  zero_unused_slots<T>(args.dbuffer_layout, args.capacity, args.counts, args.dbuffer);
}

template void decode_cpu<float>(const DecodeArgs&);
template void decode_cpu<double>(const DecodeArgs&);
template void decode_backward_cpu<float>(const DecodeBackwardArgs&);
template void decode_backward_cpu<double>(const DecodeBackwardArgs&);

}  // namespace flex
