#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/nn/window_map.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Multi-head attention inside windows. B images of L = map.rows * map.columns positions in (row, column)
/// order, N positions of a window, W windows of an image, head dim d. Rows stay where they are: partition,
/// shift and padding are read through the WindowMap, and undone the same way. A product of queries and keys
/// is never written to memory: the backward pass computes it again.
///
/// All functions throw InputError for shapes or types that disagree, run on the stream's device and may
/// return before the work is done. The WindowMap must live until then.
/// @source numerics.md "SwinV2-MoE"
namespace flex {

enum class AttentionKind : std::uint8_t {
  kCosine,     ///< <q/|q|, k/|k|> exp(min(scale_h, ln 100)), norms floored at 1e-12 (cosine.h)
  kScaledDot,  ///< <q, k> / sqrt(d)
};
[[nodiscard]] std::string_view name(AttentionKind kind);
[[nodiscard]] std::optional<AttentionKind> parse_attention(std::string_view text);  ///< cosine, scaled_dot

/// The largest window and head that the kernels hold.
inline constexpr std::int64_t kMaxWindowSize = 256;
inline constexpr std::int64_t kMaxHeadDim = 128;

struct WindowAttentionArgs {
  AttentionKind kind = AttentionKind::kCosine;
  std::int64_t num_heads = 1;
  const WindowMap* map = nullptr;
  ConstTensorView qkv;         ///< (B L, 3 heads d): a row is [3][heads][d]
  ConstTensorView scale{};     ///< (heads) in the gate's type, only for the cosine: logarithm of the factor
  ConstTensorView bias_table;  ///< (heads, num_offsets(window)) in the gate's type: position_bias.h
  TensorView out;              ///< (B L, heads d)
  TensorView logsumexp{};      ///< (B W, heads, N) in the gate's type, optional: kept for the backward pass
};
/// out = softmax(scores + bias + region penalty) v. Keys in the padding get no weight.
void window_attention(const WindowAttentionArgs& args, Stream& stream);

struct WindowAttentionBackwardArgs {
  AttentionKind kind = AttentionKind::kCosine;
  std::int64_t num_heads = 1;
  const WindowMap* map = nullptr;
  ConstTensorView qkv;
  ConstTensorView scale{};
  ConstTensorView bias_table;
  ConstTensorView out;             ///< (B L, heads d) from the forward pass
  ConstTensorView logsumexp;       ///< (B W, heads, N) from the forward pass
  ConstTensorView dout;            ///< (B L, heads d)
  TensorView dqkv;                 ///< (B L, 3 heads d) written in full; must not alias qkv
  TensorView dscale{};             ///< (heads) in the gate's type, only for the cosine
  TensorView dbias_table;          ///< (heads, num_offsets(window)) in the gate's type
  bool accumulate_dscale = false;  ///< adds to dscale instead of overwriting it
  TensorView workspace{};          ///< (bytes) u8 of window_attention_backward_workspace_bytes
};
[[nodiscard]] std::int64_t window_attention_backward_workspace_bytes(const WindowLayout& layout,
                                                                     std::int64_t num_images,
                                                                     std::int64_t num_heads, Device device);
/// Sums have a fixed order: equal bits on repeat.
void window_attention_backward(const WindowAttentionBackwardArgs& args, Stream& stream);

template <class T>
void window_attention_cpu(const WindowAttentionArgs& args);
template <class T>
void window_attention_backward_cpu(const WindowAttentionBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void window_attention_cuda(const WindowAttentionArgs& args, Stream& stream);
void window_attention_backward_cuda(const WindowAttentionBackwardArgs& args, Stream& stream);
[[nodiscard]] std::int64_t window_attention_backward_workspace_bytes_cuda(const WindowLayout& layout,
                                                                          std::int64_t num_images,
                                                                          std::int64_t num_heads);
#endif

}  // namespace flex
