#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <thrust/count.h>
#include <thrust/device_vector.h>
#include <thrust/execution_policy.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/reduce.h>
#include <thrust/transform_reduce.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/cuda_check.h"
#include "tests/support/double_layer_cuda.h"

namespace flex::testing {
namespace {

using Doubles = thrust::device_vector<double>;
using Index = std::int64_t;

constexpr int kThreads = 256;
constexpr int kMaxExperts = 128;

template <class F>
__global__ void for_each_kernel(Index count, F function) {
  for (Index i = blockIdx.x * static_cast<Index>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<Index>(gridDim.x) * blockDim.x) {
    function(i);
  }
}
template <class F>
void for_each(Index count, F function) {
  constexpr int kBlocks = 2048;
  for_each_kernel<<<kBlocks, kThreads>>>(count, function);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

template <class T>
__device__ double as_double(T value) {
  return static_cast<double>(static_cast<float>(value));
}

double* raw(Doubles& values) { return thrust::raw_pointer_cast(values.data()); }

template <class T>
void convert(const T* from, double* to, Index count) {
  for_each(count, [=] __device__(Index i) { to[i] = as_double(from[i]); });
}

Doubles doubles_of(const ConstTensorView& view) {
  const Index count = view.num_elements();
  Doubles result(static_cast<std::size_t>(count));
  switch (view.dtype) {
    case DType::kF32:
      convert(static_cast<const float*>(view.data), raw(result), count);
      break;
    case DType::kF16:
      convert(static_cast<const __half*>(view.data), raw(result), count);
      break;
    case DType::kBF16:
      convert(static_cast<const __nv_bfloat16*>(view.data), raw(result), count);
      break;
    default:
      throw std::runtime_error("double layer: type is not one that CUDA computes");
  }
  return result;
}

double relative_norm(Doubles& exact, const ConstTensorView& view) {
  Doubles actual = doubles_of(view);
  const double* a = raw(actual);
  const double* e = raw(exact);
  const auto begin = thrust::make_counting_iterator<Index>(0);
  const auto sum = [&](auto term) {
    return thrust::transform_reduce(thrust::device, begin, begin + view.num_elements(), term, 0.0,
                                    thrust::plus<double>());
  };
  const double difference = sum([=] __device__(Index i) -> double { return (a[i] - e[i]) * (a[i] - e[i]); });
  const double norm = sum([=] __device__(Index i) -> double { return e[i] * e[i]; });
  return norm == 0 ? sqrt(difference) : sqrt(difference / norm);
}

class Blas {
 public:
  Blas() {
    if (cublasCreate(&handle_) != CUBLAS_STATUS_SUCCESS) throw std::runtime_error("cublasCreate failed");
  }
  ~Blas() { cublasDestroy(handle_); }
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  // Row-major c (rows x columns) = op(a) op(b), with `inner` terms.
  void multiply(double* c, const double* a, bool transpose_a, const double* b, bool transpose_b, Index rows,
                Index columns, Index inner) {
    const double one = 1.0;
    const double zero = 0.0;
    const auto status =
        cublasDgemm(handle_, transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                    static_cast<int>(columns), static_cast<int>(rows), static_cast<int>(inner), &one, b,
                    static_cast<int>(transpose_b ? inner : columns), a,
                    static_cast<int>(transpose_a ? rows : inner), &zero, c, static_cast<int>(columns));
    if (status != CUBLAS_STATUS_SUCCESS) throw std::runtime_error("cublasDgemm failed");
  }

 private:
  cublasHandle_t handle_ = nullptr;
};

struct Sizes {
  Index t, m, h, e, k, c;
};

struct Routing {
  const std::int32_t* indices;
  const std::int32_t* locations;
  Index k, c;
  __device__ bool kept(Index choice) const { return locations[choice] < c; }
};

// function(choice, token, column of M, element of the expert's slots) for all kept choices of one expert. A
// slot has at most one choice, and a token has at most one choice of an expert: no two threads write one
// element.
template <class F>
void for_choices(const Sizes& s, const Routing& routing, Index expert, F function) {
  for_each(s.t * s.k * s.m, [=] __device__(Index i) {
    const Index choice = i / s.m;
    if (routing.indices[choice] != expert || !routing.kept(choice)) return;
    function(choice, choice / s.k, i % s.m, routing.locations[choice] * s.m + i % s.m);
  });
}

// scores (T, E) = softmax of the logits; gates (T, k) = those of the choices, over their sum when k > 1.
void softmax_and_gates(const Sizes& s, const Routing& routing, const double* logits, double* scores,
                       double* gates) {
  for_each(s.t, [=] __device__(Index t) {
    double largest = logits[t * s.e];
    for (Index e = 1; e < s.e; ++e) largest = max(largest, logits[t * s.e + e]);
    double sum = 0;
    for (Index e = 0; e < s.e; ++e) sum += exp(logits[t * s.e + e] - largest);
    for (Index e = 0; e < s.e; ++e) scores[t * s.e + e] = exp(logits[t * s.e + e] - largest) / sum;
    double chosen = 0;
    for (Index j = 0; j < s.k; ++j) chosen += scores[t * s.e + routing.indices[t * s.k + j]];
    for (Index j = 0; j < s.k; ++j) {
      const double score = scores[t * s.e + routing.indices[t * s.k + j]];
      gates[t * s.k + j] = s.k > 1 ? score / chosen : score;
    }
  });
}

// Where choice j is not the one of the j-th largest score: by how much the score is off.
void choice_gaps(const Sizes& s, const Routing& routing, const double* scores, double* gaps) {
  for_each(s.t, [=] __device__(Index t) {
    bool taken[kMaxExperts] = {};
    for (Index j = 0; j < s.k; ++j) {
      Index best = -1;
      for (Index e = 0; e < s.e; ++e) {
        if (!taken[e] && (best < 0 || scores[t * s.e + e] > scores[t * s.e + best])) best = e;
      }
      taken[best] = true;
      const Index chosen = routing.indices[t * s.k + j];
      gaps[t * s.k + j] = chosen == best ? -1.0 : fabs(scores[t * s.e + best] - scores[t * s.e + chosen]);
    }
  });
}

// dlogits (T, E) from the gates' gradients and the gshard loss, whose counts of first choices are `first`.
void backward_softmax(const Sizes& s, const Routing& routing, const double* scores, const double* dgates,
                      const double* first, double loss_gradient, double* dlogits) {
  for_each(s.t, [=] __device__(Index t) {
    double* d = dlogits + t * s.e;
    const double* p = scores + t * s.e;
    const double scale = loss_gradient * static_cast<double>(s.e) / (static_cast<double>(s.t) * s.t);
    for (Index e = 0; e < s.e; ++e) d[e] = scale * first[e];
    double sum = 0;
    double weighted = 0;
    for (Index j = 0; j < s.k; ++j) {
      const Index choice = t * s.k + j;
      sum += p[routing.indices[choice]];
      weighted += dgates[choice] * p[routing.indices[choice]];
    }
    for (Index j = 0; j < s.k; ++j) {
      const Index choice = t * s.k + j;
      // gate = p / sum: its derivative by each chosen p is 1 / sum for itself, less p / sum^2 for all.
      d[routing.indices[choice]] += s.k > 1 ? dgates[choice] / sum - weighted / (sum * sum) : dgates[choice];
    }
    double mean = 0;
    for (Index e = 0; e < s.e; ++e) mean += d[e] * p[e];
    for (Index e = 0; e < s.e; ++e) d[e] = p[e] * (d[e] - mean);
  });
}

}  // namespace

DoubleLayerComparison compare_with_double_layer(const DoubleLayerInputs& in, const DoubleLayerOutputs& out) {
  const Sizes s = {in.x.size(0),     in.x.size(1),       in.fc1_w.size(1),
                   in.fc1_w.size(0), in.indices.size(1), in.capacity};
  if (s.e > kMaxExperts) throw std::runtime_error("double layer: too many experts");
  const Routing routing = {static_cast<const std::int32_t*>(in.indices.data),
                           static_cast<const std::int32_t*>(in.locations.data), s.k, s.c};
  const auto size = [](Index n) { return static_cast<std::size_t>(n); };
  DoubleLayerComparison result;
  Blas blas;
  Doubles x = doubles_of(in.x), dy = doubles_of(in.dy), gate_weight = doubles_of(in.gate_weight);
  Doubles logits(size(s.t * s.e)), scores(size(s.t * s.e)), gates(size(s.t * s.k));
  blas.multiply(raw(logits), raw(x), false, raw(gate_weight), true, s.t, s.e, s.m);
  softmax_and_gates(s, routing, raw(logits), raw(scores), raw(gates));

  Doubles gaps(size(s.t * s.k));
  choice_gaps(s, routing, raw(scores), raw(gaps));
  result.other_choices =
      thrust::count_if(gaps.begin(), gaps.end(), [] __device__(double gap) -> bool { return gap >= 0; });
  result.widest_gap =
      std::max(0.0, thrust::reduce(gaps.begin(), gaps.end(), -1.0, thrust::maximum<double>()));

  Doubles y(size(s.t * s.m), 0.0), dx(size(s.t * s.m), 0.0), dgates(size(s.t * s.k), 0.0);
  Doubles dfc1_w(size(s.e * s.h * s.m)), dfc2_w(size(s.e * s.h * s.m));
  Doubles dfc1_bias(size(s.e * s.h)), dfc2_bias(size(s.e * s.m));
  Doubles ones(size(s.c), 1.0);
  Doubles fc1_bias = doubles_of(in.fc1_bias), fc2_bias = doubles_of(in.fc2_bias);
  for (Index expert = 0; expert < s.e; ++expert) {
    const auto of_expert = [&](const ConstTensorView& view) {
      ConstTensorView one = view;
      one.data = static_cast<const char*>(view.data) + expert * s.h * s.m * size_bytes(view.dtype);
      one.shape = {1, s.h, s.m};
      return doubles_of(one);
    };
    Doubles w1 = of_expert(in.fc1_w), w2 = of_expert(in.fc2_w);
    Doubles rows(size(s.c * s.m), 0.0), drows(size(s.c * s.m), 0.0), hidden(size(s.c * s.h));
    Doubles results(size(s.c * s.m)), dhidden(size(s.c * s.h));
    const double *px = raw(x), *pdy = raw(dy), *pgates = raw(gates);
    double *prows = raw(rows), *pdrows = raw(drows), *phidden = raw(hidden), *presults = raw(results);
    double *py = raw(y), *pdx = raw(dx), *pdgates = raw(dgates), *pdhidden = raw(dhidden);
    const double* b1 = raw(fc1_bias) + expert * s.h;
    const double* b2 = raw(fc2_bias) + expert * s.m;
    for_choices(s, routing, expert, [=] __device__(Index choice, Index t, Index m, Index slot) {
      prows[slot] = px[t * s.m + m];
      pdrows[slot] = pgates[choice] * pdy[t * s.m + m];
    });
    blas.multiply(phidden, prows, false, raw(w1), true, s.c, s.h, s.m);
    for_each(s.c * s.h, [=] __device__(Index i) { phidden[i] = max(phidden[i] + b1[i % s.h], 0.0); });
    blas.multiply(presults, phidden, false, raw(w2), false, s.c, s.m, s.h);
    for_choices(s, routing, expert, [=] __device__(Index choice, Index t, Index m, Index slot) {
      py[t * s.m + m] += pgates[choice] * (presults[slot] + b2[m]);
    });
    for_each(s.t * s.k, [=] __device__(Index choice) {
      if (routing.indices[choice] != expert || !routing.kept(choice)) return;
      double sum = 0;
      for (Index m = 0; m < s.m; ++m) {
        sum += pdy[choice / s.k * s.m + m] * (presults[routing.locations[choice] * s.m + m] + b2[m]);
      }
      pdgates[choice] = sum;
    });
    blas.multiply(raw(dfc2_w) + expert * s.h * s.m, phidden, true, pdrows, false, s.h, s.m, s.c);
    blas.multiply(raw(dfc2_bias) + expert * s.m, raw(ones), false, pdrows, false, 1, s.m, s.c);
    blas.multiply(pdhidden, pdrows, false, raw(w2), true, s.c, s.h, s.m);
    for_each(s.c * s.h, [=] __device__(Index i) { pdhidden[i] = phidden[i] > 0 ? pdhidden[i] : 0.0; });
    blas.multiply(raw(dfc1_w) + expert * s.h * s.m, pdhidden, true, prows, false, s.h, s.m, s.c);
    blas.multiply(raw(dfc1_bias) + expert * s.h, raw(ones), false, pdhidden, false, 1, s.h, s.c);
    blas.multiply(presults, pdhidden, false, raw(w1), false, s.c, s.m, s.h);
    for_choices(s, routing, expert,
                [=] __device__(Index, Index t, Index m, Index slot) { pdx[t * s.m + m] += presults[slot]; });
  }

  Doubles first(size(s.e), 0.0), dlogits(size(s.t * s.e)), dgate_weight(size(s.e * s.m));
  double* pfirst = raw(first);
  for_each(s.t, [=] __device__(Index t) { atomicAdd(pfirst + routing.indices[t * s.k], 1.0); });
  backward_softmax(s, routing, raw(scores), raw(dgates), pfirst, in.loss_gradient, raw(dlogits));
  blas.multiply(raw(dgate_weight), raw(dlogits), true, raw(x), false, s.e, s.m, s.t);
  Doubles dx_gate(size(s.t * s.m));
  blas.multiply(raw(dx_gate), raw(dlogits), false, raw(gate_weight), false, s.t, s.m, s.e);
  double* pdx = raw(dx);
  const double* pdx_gate = raw(dx_gate);
  for_each(s.t * s.m, [=] __device__(Index i) { pdx[i] += pdx_gate[i]; });

  result.norms = {{"y", relative_norm(y, out.y)},
                  {"dx", relative_norm(dx, out.dx)},
                  {"gate_weight", relative_norm(dgate_weight, out.gate_weight)},
                  {"fc1_w", relative_norm(dfc1_w, out.fc1_w)},
                  {"fc2_w", relative_norm(dfc2_w, out.fc2_w)},
                  {"fc1_bias", relative_norm(dfc1_bias, out.fc1_bias)},
                  {"fc2_bias", relative_norm(dfc2_bias, out.fc2_bias)}};
  FLEX_CUDA_CHECK(cudaDeviceSynchronize());
  return result;
}

}  // namespace flex::testing
