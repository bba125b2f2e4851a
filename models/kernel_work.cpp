#include "models/kernel_work.h"

#include <algorithm>
#include <initializer_list>

#include "costmodel/schedule.h"

namespace flex {
namespace {

double bytes_of(std::initializer_list<ConstTensorView> tensors) {
  double bytes = 0;
  for (const ConstTensorView& tensor : tensors)
    bytes += tensor.present() ? static_cast<double>(tensor.bytes()) : 0;
  return bytes;
}

double bytes_if(bool condition, std::initializer_list<ConstTensorView> tensors) {
  return condition ? bytes_of(tensors) : 0;
}

// One (rows, K) by (K, columns) for a `matrix` of (columns, K).
double product(std::int64_t rows, const ConstTensorView& matrix) {
  return static_cast<double>(rows) * static_cast<double>(matrix.num_elements());
}

// Of one product of queries and keys over all windows of all images, `qkv` (B L, 3 C).
double attention_product(const WindowMap& map, const ConstTensorView& qkv) {
  const WindowLayout& layout = map.layout();
  const std::int64_t images = qkv.size(0) / layout.map.area();
  const std::int64_t channels = qkv.size(1) / 3;
  return static_cast<double>(images * layout.num_slots()) * static_cast<double>(layout.window_size()) *
         static_cast<double>(channels);
}

}  // namespace

double floor_us(const KernelWork& work, const DeviceCeilings& ceilings) {
  constexpr double kFlopsPerUsOfTFLOPs = 1e6;
  constexpr double kBytesPerUsOfGBps = 1e3;
  return std::max(2 * work.multiply_accumulates / (ceilings.matrix_TFLOPs * kFlopsPerUsOfTFLOPs),
                  work.bytes / (ceilings.copy_GBps * kBytesPerUsOfGBps));
}

KernelWork work_of(const LinearArgs& args) {
  return {.multiply_accumulates = product(args.x.size(0), args.weight),
          .bytes = bytes_of({args.x, args.weight, args.bias, args.preactivation, args.y})};
}

KernelWork work_of(const LinearBackwardArgs& args) {
  KernelWork work{.bytes =
                      bytes_of({args.dy, args.x, args.weight, args.kept, args.dx, args.dweight, args.dbias}) +
                      bytes_if(args.accumulate_dx, {args.dx}) +
                      bytes_if(args.accumulate_weights, {args.dweight, args.dbias})};
  if (args.dx.present()) work.multiply_accumulates += product(args.dy.size(0), args.weight);
  if (args.dweight.present()) work.multiply_accumulates += product(args.dy.size(0), args.dweight);
  return work;
}

KernelWork work_of(const WindowAttentionArgs& args) {
  constexpr double kProducts = 2;
  return {.multiply_accumulates = kProducts * attention_product(*args.map, args.qkv),
          .bytes = bytes_of({args.qkv, args.scale, args.bias_table, args.out, args.logsumexp})};
}

KernelWork work_of(const WindowAttentionBackwardArgs& args) {
  constexpr double kProducts = 5;
  return {.multiply_accumulates = kProducts * attention_product(*args.map, args.qkv),
          .bytes = bytes_of({args.qkv, args.scale, args.bias_table, args.out, args.logsumexp, args.dout,
                             args.dqkv, args.dscale, args.dbias_table})};
}

KernelWork work_of(const LayerNormArgs& args) {
  return {.bytes = bytes_of(
              {args.x, args.weight, args.bias, args.residual, args.factors, args.y, args.mean, args.rstd})};
}

KernelWork work_of(const LayerNormBackwardArgs& args) {
  return {.bytes = bytes_of({args.dy, args.x, args.weight, args.mean, args.rstd, args.factors, args.dx,
                             args.dweight, args.dbias}) +
                   bytes_if(args.accumulate_dx, {args.dx}) +
                   bytes_if(args.accumulate_weights, {args.dweight, args.dbias})};
}

KernelWork work_of(const AddResidualArgs& args) {
  return {.bytes = bytes_of({args.residual, args.x, args.factors, args.y})};
}

KernelWork work_of(const ScaleRowsArgs& args) { return {.bytes = bytes_of({args.x, args.factors, args.y})}; }

KernelWork work_of(const DropoutArgs& args) { return {.bytes = bytes_of({args.x, args.y})}; }

KernelWork work_of(const PatchRowsArgs& args) { return {.bytes = bytes_of({args.images, args.rows})}; }

KernelWork work_of(const MergePatchesArgs& args) { return {.bytes = bytes_of({args.x, args.rows})}; }

KernelWork work_of(const MergePatchesBackwardArgs& args) {
  return {.bytes = bytes_of({args.drows, args.dx})};
}

KernelWork work_of(const MeanPoolArgs& args) { return {.bytes = bytes_of({args.x, args.y})}; }

KernelWork work_of(const MeanPoolBackwardArgs& args) { return {.bytes = bytes_of({args.dy, args.dx})}; }

KernelWork work_of(const PositionBiasArgs& args) {
  return {.multiply_accumulates =
              product(args.table.size(1), args.fc1_weight) + product(args.table.size(1), args.fc2_weight),
          .bytes = bytes_of({args.fc1_weight, args.fc1_bias, args.fc2_weight, args.table})};
}

KernelWork work_of(const PositionBiasBackwardArgs& args) {
  // The hidden values once more, theirs and the second weight's gradients, the first weight's.
  constexpr double kFirst = 2;
  constexpr double kSecond = 2;
  return {.multiply_accumulates = kFirst * product(args.table.size(1), args.fc1_weight) +
                                  kSecond * product(args.table.size(1), args.fc2_weight),
          .bytes = bytes_of({args.fc1_weight, args.fc1_bias, args.fc2_weight, args.table, args.dtable,
                             args.dfc1_weight, args.dfc1_bias, args.dfc2_weight}) +
                   bytes_if(args.accumulate_weights, {args.dfc1_weight, args.dfc1_bias, args.dfc2_weight})};
}

KernelWork work_of(const CrossEntropyArgs& args) {
  return {.bytes = bytes_of({args.logits, args.labels, args.targets, args.losses, args.loss, args.dlogits})};
}

KernelWork optimizer_work(const TrainedTensors& tensors) {
  KernelWork work;
  for (const TrainedTensor& tensor : tensors.tensors()) {
    work.bytes += bytes_of({tensor.gradient, tensor.gradient, tensor.narrow});
    work.bytes += 2 * bytes_of({tensor.parameter, tensor.first_moment, tensor.second_moment, tensor.average});
  }
  return work;
}

KernelWork work_of(const Operation& operation) {
  if (operation.stream != StreamKind::kCompute) return {};
  return {.multiply_accumulates = operation.size.flops / 2,
          .bytes = static_cast<double>(operation.size.bytes)};
}

}  // namespace flex
