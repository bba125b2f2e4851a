#include "kernels/nn/window_attention.h"

#include <array>

#include "kernels/check.h"
#include "kernels/nn/position_bias.h"

namespace flex {
namespace {

constexpr std::array kKinds = {AttentionKind::kCosine, AttentionKind::kScaledDot};

// What forward and backward have in common. Returns the number of images.
template <class Args>
std::int64_t check_attention(const ArgumentCheck& check, const Args& args, Device device) {
  const DType dtype = args.qkv.dtype;
  check.require_compute_dtype("qkv", dtype);
  require(args.map != nullptr, "{}: map is missing", check.kernel());
  require(args.map->device() == device, "{}: map lies on {}, the stream runs on {}", check.kernel(),
          to_string(args.map->device()), to_string(device));
  const WindowLayout& layout = args.map->layout();
  require(layout.window_size() <= kMaxWindowSize, "{}: a window of {} x {} has {} positions, at most {}",
          check.kernel(), layout.window.rows, layout.window.columns, layout.window_size(), kMaxWindowSize);
  const std::int64_t rows = args.qkv.size(0);
  const std::int64_t columns = args.qkv.size(1);
  require(rows % layout.map.area() == 0, "{}: qkv has {} rows, not a multiple of the map's {}",
          check.kernel(), rows, layout.map.area());
  require(args.num_heads >= 1 && columns >= 1 && columns % (3 * args.num_heads) == 0,
          "{}: qkv has {} columns, not three times {} heads", check.kernel(), columns, args.num_heads);
  const std::int64_t head_dim = columns / (3 * args.num_heads);
  require(head_dim <= kMaxHeadDim, "{}: heads of {} columns, at most {}", check.kernel(), head_dim,
          kMaxHeadDim);
  check.tensor("qkv", args.qkv, dtype, {rows, columns});
  const DType wide = gate_dtype(dtype);
  if (args.kind == AttentionKind::kCosine) {
    check.tensor("scale", args.scale, wide, {args.num_heads});
  } else {
    check.require_absent("scale", args.scale, "without the cosine");
  }
  check.tensor("bias_table", args.bias_table, wide, {args.num_heads, num_offsets(layout.window)});
  check.tensor("out", args.out, dtype, {rows, columns / 3});
  return rows / layout.map.area();
}

Shape logsumexp_shape(const WindowLayout& layout, std::int64_t images, std::int64_t heads) {
  return {images * layout.num_windows().area(), heads, layout.window_size()};
}

void check_backward(const WindowAttentionBackwardArgs& args, Device device) {
  const ArgumentCheck check("window_attention_backward", device);
  const std::int64_t images = check_attention(check, args, device);
  const WindowLayout& layout = args.map->layout();
  const DType dtype = args.qkv.dtype;
  const DType wide = gate_dtype(dtype);
  check.tensor("logsumexp", args.logsumexp, wide, logsumexp_shape(layout, images, args.num_heads));
  check.tensor("dout", args.dout, dtype, args.out.shape);
  check.tensor("dqkv", args.dqkv, dtype, args.qkv.shape);
  if (args.kind == AttentionKind::kCosine) {
    check.tensor("dscale", args.dscale, wide, {args.num_heads});
  } else {
    check.require_absent("dscale", args.dscale, "without the cosine");
  }
  check.tensor("dbias_table", args.dbias_table, wide, args.bias_table.shape);
  check.workspace(args.workspace,
                  window_attention_backward_workspace_bytes(layout, images, args.num_heads, device));
}

}  // namespace

std::string_view name(AttentionKind kind) { return kind == AttentionKind::kCosine ? "cosine" : "scaled_dot"; }

std::optional<AttentionKind> parse_attention(std::string_view text) {
  for (const AttentionKind kind : kKinds) {
    if (name(kind) == text) return kind;
  }
  return std::nullopt;
}

std::int64_t window_attention_backward_workspace_bytes([[maybe_unused]] const WindowLayout& layout,
                                                       [[maybe_unused]] std::int64_t num_images,
                                                       [[maybe_unused]] std::int64_t num_heads,
                                                       [[maybe_unused]] Device device) {
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) return window_attention_backward_workspace_bytes_cuda(layout, num_images, num_heads);
#endif
  return 0;
}

void window_attention(const WindowAttentionArgs& args, Stream& stream) {
  const ArgumentCheck check("window_attention", stream.device());
  const std::int64_t images = check_attention(check, args, stream.device());
  if (args.logsumexp.present())
    check.tensor("logsumexp", args.logsumexp, gate_dtype(args.qkv.dtype),
                 logsumexp_shape(args.map->layout(), images, args.num_heads));
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return window_attention_cuda(args, stream);
#endif
  enqueue_as(args.qkv.dtype, stream, [args]<class T>() { window_attention_cpu<T>(args); });
}

void window_attention_backward(const WindowAttentionBackwardArgs& args, Stream& stream) {
  check_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return window_attention_backward_cuda(args, stream);
#endif
  enqueue_as(args.qkv.dtype, stream, [args]<class T>() { window_attention_backward_cpu<T>(args); });
}

}  // namespace flex
