#include "kernels/moe/encode.h"
#include "kernels/moe/slot_rows.cuh"

namespace flex {

void encode_cuda(const EncodeArgs& args, Stream& stream) {
  scatter_rows_cuda({.rows = args.x,
                     .indices = args.indices,
                     .locations = args.locations,
                     .counts = args.counts,
                     .gates = args.gates,
                     .capacity = args.capacity,
                     .layout = args.layout,
                     .slots = args.buffer},
                    stream);
}

void encode_backward_cuda(const EncodeBackwardArgs& args, Stream& stream) {
  gather_rows_cuda({.slots = args.dbuffer,
                    .indices = args.indices,
                    .locations = args.locations,
                    .gates = args.gates,
                    .capacity = args.capacity,
                    .layout = args.layout,
                    .rows = args.dx,
                    .accumulate = args.accumulate_dx,
                    .x = args.x,
                    .dots = args.dgates},
                   stream);
}

}  // namespace flex
