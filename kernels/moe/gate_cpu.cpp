#include "kernels/cosine_map.h"
#include "kernels/matrix_map.h"
#include "kernels/moe/gate.h"

namespace flex {

template <class T>
void linear_gate_cpu(const LinearGateArgs& args) {
  multiply(as_matrix<T>(args.logits), as_matrix<T>(args.x), as_matrix<T>(args.weight).transpose());
}

template <class T>
void linear_gate_backward_cpu(const LinearGateBackwardArgs& args) {
  const auto dlogits = as_matrix<T>(args.dlogits);
  multiply(as_matrix<T>(args.dweight), dlogits.transpose(), as_matrix<T>(args.x));
  auto dx = as_matrix<T>(args.dx);
  if (!args.accumulate_dx) dx.setZero();
  multiply_add(dx, dlogits, as_matrix<T>(args.weight));
}

template <class T>
void cosine_gate_cpu(const CosineGateArgs& args) {
  const auto sim = as_matrix<T>(args.sim_matrix);
  auto projected = as_matrix<T>(args.projected);
  auto normalized_sim = as_matrix<T>(args.normalized_sim);
  auto logits = as_matrix<T>(args.logits);

  multiply(projected, as_matrix<T>(args.x), as_matrix<T>(args.projector_weight).transpose());
  projected.rowwise() += ConstRowMap<T>(args.projector_bias.as<T>(), args.projector_bias.size(0));
  for (std::int64_t expert = 0; expert < sim.cols(); ++expert) {
    normalized_sim.col(expert) = sim.col(expert) / floored(sim.col(expert).norm());
  }
  multiply(logits, projected, normalized_sim);
  const T scale = cosine_scale(args.temperature.as<T>()[0]);
  for (std::int64_t token = 0; token < logits.rows(); ++token) {
    logits.row(token) *= scale / floored(projected.row(token).norm());
  }
}

// With u = p/|p|, v = S/|S| and c = exp(min(t, ln 100)): logits = c u v, so dt = <logits, dlogits> = sum_t
// <u, du>, dv = c u^T dlogits and du = c dlogits v^T.
template <class T>
void cosine_gate_backward_cpu(const CosineGateBackwardArgs& args) {
  const auto projected = as_matrix<T>(args.projected);
  const auto sim = as_matrix<T>(args.sim_matrix);
  const auto dlogits = as_matrix<T>(args.dlogits);
  auto dprojected = as_matrix<T>(args.dprojected);
  auto dsim = as_matrix<T>(args.dsim_matrix);
  const T scale = cosine_scale(args.temperature.as<T>()[0]);

  for (std::int64_t token = 0; token < projected.rows(); ++token) {  // dprojected holds c u for a moment
    dprojected.row(token) = projected.row(token) * (scale / floored(projected.row(token).norm()));
  }
  multiply(dsim, dprojected.transpose(), dlogits);
  for (std::int64_t expert = 0; expert < sim.cols(); ++expert) {
    normalize_backward(sim.col(expert), dsim.col(expert));
  }

  multiply(dprojected, dlogits, as_matrix<T>(args.normalized_sim).transpose());
  dprojected *= scale;
  T dtemperature = T(0);
  for (std::int64_t token = 0; token < projected.rows(); ++token) {
    const auto p = projected.row(token);
    dtemperature += p.dot(dprojected.row(token)) / floored(p.norm());
    normalize_backward(p, dprojected.row(token));
  }
  args.dtemperature.as<T>()[0] = is_clamped(args.temperature.as<T>()[0]) ? T(0) : dtemperature;

  multiply(as_matrix<T>(args.dprojector_weight), dprojected.transpose(), as_matrix<T>(args.x));
  RowMap<T>(args.dprojector_bias.as<T>(), args.dprojector_bias.size(0)) = dprojected.colwise().sum();
  auto dx = as_matrix<T>(args.dx);
  if (!args.accumulate_dx) dx.setZero();
  multiply_add(dx, dprojected, as_matrix<T>(args.projector_weight));
}

template void linear_gate_cpu<float>(const LinearGateArgs&);
template void linear_gate_cpu<double>(const LinearGateArgs&);
template void linear_gate_backward_cpu<float>(const LinearGateBackwardArgs&);
template void linear_gate_backward_cpu<double>(const LinearGateBackwardArgs&);
template void cosine_gate_cpu<float>(const CosineGateArgs&);
template void cosine_gate_cpu<double>(const CosineGateArgs&);
template void cosine_gate_backward_cpu<float>(const CosineGateBackwardArgs&);
template void cosine_gate_backward_cpu<double>(const CosineGateBackwardArgs&);

}  // namespace flex
