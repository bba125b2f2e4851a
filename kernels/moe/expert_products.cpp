#include "kernels/moe/expert_products.h"

#include <algorithm>

#include "kernels/moe/activation.h"

namespace flex {

namespace {

// Of bias or sums.
std::int64_t vector_stride(const ExpertProduct& product) {
  if (product.bias.present()) return product.bias.outer_stride;
  return product.sums.present() ? product.sums.outer_stride : 0;
}

}  // namespace

GemmCall batched_call(const ExpertProduct& product) {
  const std::int64_t a_rows = product.a.size(1);
  const std::int64_t a_columns = product.a.size(2);
  GemmCall call;
  call.shape = {.dtype = product.a.dtype,
                .transpose_a = product.transpose_a,
                .transpose_b = product.transpose_b,
                .m = product.transpose_a ? a_columns : a_rows,
                .n = product.transpose_b ? product.b.size(1) : product.b.size(2),
                .k = product.transpose_a ? a_rows : a_columns,
                .batch = product.a.size(0),
                .lda = a_columns,
                .ldb = product.b.size(2),
                .ldd = product.d.size(2),
                .stride_a = product.a.outer_stride,
                .stride_b = product.b.outer_stride,
                .stride_d = product.d.outer_stride,
                .vector_stride = vector_stride(product),
                .epilogue = product.epilogue,
                .accumulate = product.accumulate};
  call.a = product.a.data;
  call.b = product.b.data;
  call.d = product.d.data;
  call.bias = product.bias.data;
  call.sums = product.sums.data;
  return call;
}

void ExpertProducts::run(const ExpertProduct& product) {
  if (counts_.empty()) return gemm_.run(batched_call(product), stream_);
  collect(product);
  gemm_.run_group(calls_, stream_);
}

bool ExpertProducts::run_if_supported(const ExpertProduct& product) {
  if (counts_.empty()) return gemm_.run_if_supported(batched_call(product), stream_);
  if (product.epilogue == GemmEpilogue::kNone) {
    run(product);
    return true;
  }
  collect(product);
  // Grouped products have no epilogues. One by one, experts whose addresses are aligned otherwise may need
  // another algorithm: either all have it, or none is queued.
  const auto is_supported = [&](const GemmCall& call) { return gemm_.supports(call); };
  if (!gemm_.runs_one_by_one(calls_) || !std::ranges::all_of(calls_, is_supported)) return false;
  for (const GemmCall& call : calls_) gemm_.run(call, stream_);
  return true;
}

void ExpertProducts::run_with_sums(const ExpertProduct& plain, const BiasSums& bias) {
  const TensorView& sums = bias.sums;
  const ConstTensorView& rows = bias.epilogue == GemmEpilogue::kRowSumsA ? plain.a : plain.b;
  if (sums.present() && !bias.accumulate && bias.begin == 0 && sums.size(1) == rows.size(2)) {
    ExpertProduct fused = plain;
    fused.epilogue = bias.epilogue;
    fused.sums = sums;
    if (prefers_fused(fused, plain, rows.bytes()).value_or(false)) return run(fused);
  }
  run(plain);
  if (!sums.present()) return;
  column_sums_cuda({.rows = rows,
                    .begin = bias.begin,
                    .columns = covered_columns(bias.begin, sums.size(1), rows.size(2)),
                    .sums = sums,
                    .workspace = gemm_.workspace(),
                    .accumulate = bias.accumulate,
                    .counts = counts_},
                   stream_);
}

std::optional<bool> ExpertProducts::prefers_fused(const ExpertProduct& fused, const ExpertProduct& plain,
                                                  std::int64_t pass_bytes) {
  if (!counts_.empty()) return false;
  return gemm_.prefers_fused(batched_call(fused), batched_call(plain), pass_bytes);
}

void ExpertProducts::collect(const ExpertProduct& product) {
  const GemmCall all = batched_call(product);
  const std::int64_t element = size_bytes(product.a.dtype);
  const auto at = [element](const void* data, std::int64_t offset) -> const void* {
    return data == nullptr ? nullptr : static_cast<const char*>(data) + offset * element;
  };
  calls_.clear();
  for (std::int64_t expert = 0; expert < all.shape.batch; ++expert) {
    const std::int64_t count = counts_[static_cast<std::size_t>(expert)];
    GemmCall call = all;
    (product.transpose_a ? call.shape.k : call.shape.m) = count;
    call.shape.batch = 1;
    // Not looked at without a batch; equal keys for equal shapes.
    call.shape.stride_a = call.shape.stride_b = call.shape.stride_d = call.shape.vector_stride = 0;
    call.a = at(all.a, expert * all.shape.stride_a);
    call.b = at(all.b, expert * all.shape.stride_b);
    call.d = const_cast<void*>(at(all.d, expert * all.shape.stride_d));
    call.bias = at(all.bias, expert * all.shape.vector_stride);
    calls_.push_back(call);
  }
}

}  // namespace flex
