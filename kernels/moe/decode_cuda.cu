#include "kernels/moe/decode.h"
#include "kernels/moe/slot_rows.cuh"

namespace flex {

void decode_cuda(const DecodeArgs& args, Stream& stream) {
  gather_rows_cuda({.slots = args.buffer,
                    .indices = args.indices,
                    .locations = args.locations,
                    .gates = args.gates,
                    .capacity = args.capacity,
                    .layout = args.layout,
                    .rows = args.y},
                   stream);
}

void decode_backward_cuda(const DecodeBackwardArgs& args, Stream& stream) {
  scatter_rows_cuda({.rows = args.dy,
                     .indices = args.indices,
                     .locations = args.locations,
                     .counts = args.counts,
                     .gates = args.gates,
                     .capacity = args.capacity,
                     .layout = args.dbuffer_layout,
                     .slots = args.dbuffer,
                     .other = args.buffer,
                     .other_layout = args.buffer_layout,
                     .dots = args.dgates},
                    stream);
}

}  // namespace flex
