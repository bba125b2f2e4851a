#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex {

/// Arguments of dropout. R rows (tokens) of C channels.
struct DropoutArgs {
  ConstTensorView x;            ///< (R, C)
  TensorView y;                 ///< (R, C); may be the memory of x
  double rate = 0.0;            ///< p, share of the elements that become 0, in [0, 1)
  std::uint64_t seed = 0;       ///< with the next three: what the draw is a function of
  std::uint64_t iteration = 0;  ///< training step
  std::uint32_t layer = 0;
  std::int64_t first_row = 0;  ///< row 0 of x among the rows of all ranks
};

/// y[r, c] = x[r, c] / (1 - p), or 0 with probability p: where dropout_words() (dropout_words.h) of row
/// first_row + r has a word below p 2^32 for channel c. The backward pass is the same call on dy.
///
/// A function of its arguments alone: neither the number of ranks nor the order of calls changes what is
/// dropped, and devices drop the same. Runs on the stream's device and may return before the work is done.
/// @throws InputError for shapes or types that disagree, or a rate outside of [0, 1).
/// @source Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting"
void dropout(const DropoutArgs& args, Stream& stream);

template <class T>
void dropout_cpu(const DropoutArgs& args);

#ifdef FLEX_HAS_CUDA
void dropout_cuda(const DropoutArgs& args, Stream& stream);
#endif

}  // namespace flex
