#include <cfloat>
#include <climits>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/route_params.cuh"

// Scores, choices and gates, a tile of tokens a block.
namespace flex {
namespace {

constexpr int kChooseThreads = 512;
constexpr unsigned kOneBits = 0x3F800000U;  // 1.0F

__device__ bool is_finite(float value) { return fabsf(value) <= FLT_MAX; }

// Scores are not negative, so that their bits order as they do. The sign of a NaN is dropped: whatever the
// logits are, every token gets k different experts.
__device__ int score_bits(float score) { return static_cast<int>(__float_as_uint(score) & 0x7FFFFFFFU); }

__device__ float gate_divisor(const RouteParams& p, float sum_of_chosen) {
  return p.normalize && p.top_k > 1 ? fmaxf(sum_of_chosen, FLT_EPSILON) : 1.0F;
}

// For sorting by descending best score: smaller keys come first.
__device__ void write_key(const RouteParams& p, std::int64_t token, int best_bits) {
  const int below_one = static_cast<int>(kOneBits) - best_bits;
  p.scratch.keys[0][token] = min(static_cast<std::uint32_t>(max(below_one, 0)), p.max_key);
  p.scratch.order[0][token] = static_cast<std::int32_t>(token);
}

// What every choosing block does before and after its tokens.
struct ChooseBlock {
  const RouteParams& p;
  TileCounts counts;
  unsigned long long* bad;

  __device__ void begin() const {
    if (threadIdx.x == 0) *bad = kAllFinite;
    if (threadIdx.x == 0 && blockIdx.x == 0) *p.needed = 0;
    if (!p.prioritized) counts.clear();
    __syncthreads();
  }
  __device__ void note_bad(std::int64_t token, int expert) const {
    atomicMin(bad, static_cast<unsigned long long>(token * p.num_experts + expert));
  }
  __device__ void end() const {
    __syncthreads();
    if (threadIdx.x == 0) p.scratch.tile_bad[blockIdx.x] = *bad;
    if (!p.prioritized) counts.write();
  }
};

// A token is shared by kLanes neighbouring lanes. Each lane holds kValues of its experts in registers, in
// accesses of kWidth, in ascending order.
template <int kLanes, int kValues, int kWidth>
struct TokenSlice {
  static constexpr int kFree = -1;  // may still be chosen
  static constexpr int kNoExpert = -2;

  int lane;
  float values[kValues];
  int chosen_as[kValues];  // the choice that took the expert

  __device__ int expert(int i) const { return kWidth * (lane + kLanes * (i / kWidth)) + i % kWidth; }

  __device__ void load(const float* logits, int num_experts, bool active) {
#pragma unroll
    for (int i = 0; i < kValues; i += kWidth) {
      const bool present = expert(i) < num_experts;
      float4 four = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
      if (active && present) {
        if constexpr (kWidth == 4)
          four = *reinterpret_cast<const float4*>(logits + expert(i));
        else
          four.x = logits[expert(i)];
      }
      const float parts[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int part = 0; part < kWidth; ++part) {
        values[i + part] = parts[part];
        chosen_as[i + part] = present ? kFree : kNoExpert;
      }
    }
  }

  __device__ void softmax() {
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kValues; ++i) largest = fmaxf(largest, values[i]);
    largest = lanes_max<kLanes>(largest);
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      values[i] = expf(values[i] - largest);
      sum += values[i];
    }
    sum = lanes_sum<kLanes>(sum);
#pragma unroll
    for (int i = 0; i < kValues; ++i) values[i] /= sum;
  }

  __device__ void store(float* scores, int num_experts) const {
#pragma unroll
    for (int i = 0; i < kValues; i += kWidth) {
      if (expert(i) >= num_experts) continue;
      if constexpr (kWidth == 4) {
        *reinterpret_cast<float4*>(scores + expert(i)) =
            make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
      } else {
        scores[expert(i)] = values[i];
      }
    }
  }

  // Takes the best free expert of the token for `choice`; the lower of two with equal scores. Returns the
  // bits of its score.
  __device__ int choose(int choice) {
    int best = -1;
    int best_expert = INT_MAX;
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const int bits = score_bits(values[i]);
      if (chosen_as[i] == kFree && bits > best) {
        best = bits;
        best_expert = expert(i);
      }
    }
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      const int other = __shfl_xor_sync(kFullWarp, best, offset);
      const int other_expert = __shfl_xor_sync(kFullWarp, best_expert, offset);
      if (other > best || (other == best && other_expert < best_expert)) {
        best = other;
        best_expert = other_expert;
      }
    }
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      if (expert(i) == best_expert) chosen_as[i] = choice;
    }
    return best;
  }
};

template <int kLanes, int kValues, int kWidth>
__global__ void __launch_bounds__(kChooseThreads) choose_kernel(const __grid_constant__ RouteParams p) {
  extern __shared__ int shared_counts[];
  __shared__ unsigned long long bad;
  const ChooseBlock block = {p, {shared_counts, p, blockIdx.x}, &bad};
  block.begin();

  const std::int64_t tile_begin = static_cast<std::int64_t>(blockIdx.x) * kRouteTile;
  TokenSlice<kLanes, kValues, kWidth> slice;
  slice.lane = static_cast<int>(threadIdx.x) % kLanes;
  // Whole warps take part in every round, so that the shuffles find all lanes; tokens past the end are idle.
  for (int place = threadIdx.x / kLanes; place < kRouteTile; place += kChooseThreads / kLanes) {
    const std::int64_t token = tile_begin + place;
    const bool active = token < p.num_tokens;
    slice.load(p.logits + token * p.num_experts, p.num_experts, active);
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      if (active && slice.expert(i) < p.num_experts && !is_finite(slice.values[i])) {
        block.note_bad(token, slice.expert(i));
      }
    }
    slice.softmax();
    if (active) slice.store(p.scores + token * p.num_experts, p.num_experts);

    float sum = 0.0F;
    int best = 0;
    for (int choice = 0; choice < p.top_k; ++choice) {
      const int bits = slice.choose(choice);
      if (choice == 0) best = bits;
      sum += __int_as_float(bits);
    }
    if (!active) continue;
    const float divisor = gate_divisor(p, sum);
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const int choice = slice.chosen_as[i];
      if (choice < 0) continue;
      p.indices[token * p.top_k + choice] = slice.expert(i);
      p.gates[token * p.top_k + choice] = slice.values[i] / divisor;
      if (!p.prioritized) block.counts.add(choice, slice.expert(i));
    }
    if (p.prioritized && slice.lane == 0) write_key(p, token, best);
  }
  block.end();
}

// For more experts than registers hold: a warp for each token, its row of scores in memory. A lane touches
// only its own experts, so that no lane waits for another's stores.
struct TokenRow {
  const RouteParams& p;
  std::int64_t token;
  int lane;

  __device__ void softmax(const ChooseBlock& block) const {
    const float* logits = p.logits + token * p.num_experts;
    float* scores = p.scores + token * p.num_experts;
    float largest = -INFINITY;
    for (int expert = lane; expert < p.num_experts; expert += kWarpSize) {
      if (!is_finite(logits[expert])) block.note_bad(token, expert);
      largest = fmaxf(largest, logits[expert]);
    }
    largest = lanes_max(largest);
    float sum = 0.0F;
    for (int expert = lane; expert < p.num_experts; expert += kWarpSize) {
      scores[expert] = expf(logits[expert] - largest);
      sum += scores[expert];
    }
    sum = lanes_sum(sum);
    for (int expert = lane; expert < p.num_experts; expert += kWarpSize) scores[expert] /= sum;
  }

  // The best expert that comes after (last_bits, last_expert) in the order of descending score, then
  // ascending expert.
  __device__ void next(int& last_bits, int& last_expert) const {
    const float* scores = p.scores + token * p.num_experts;
    int best = -1;
    int best_expert = INT_MAX;
    for (int expert = lane; expert < p.num_experts; expert += kWarpSize) {
      const int bits = score_bits(scores[expert]);
      const bool after = bits < last_bits || (bits == last_bits && expert > last_expert);
      if (after && bits > best) {
        best = bits;
        best_expert = expert;
      }
    }
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
      const int other = __shfl_xor_sync(kFullWarp, best, offset);
      const int other_expert = __shfl_xor_sync(kFullWarp, best_expert, offset);
      if (other > best || (other == best && other_expert < best_expert)) {
        best = other;
        best_expert = other_expert;
      }
    }
    last_bits = best;
    last_expert = best_expert;
  }
};

__global__ void __launch_bounds__(kChooseThreads) choose_many_kernel(const __grid_constant__ RouteParams p) {
  extern __shared__ int shared_counts[];
  __shared__ unsigned long long bad;
  const ChooseBlock block = {p, {shared_counts, p, blockIdx.x}, &bad};
  block.begin();

  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const std::int64_t tile_begin = static_cast<std::int64_t>(blockIdx.x) * kRouteTile;
  for (int place = threadIdx.x / kWarpSize; place < kRouteTile; place += kChooseThreads / kWarpSize) {
    const TokenRow row = {p, tile_begin + place, lane};
    if (row.token >= p.num_tokens) break;  // alike in the whole warp
    row.softmax(block);
    float sum = 0.0F;
    int bits = INT_MAX;
    int expert = -1;
    for (int choice = 0; choice < p.top_k; ++choice) {
      row.next(bits, expert);
      sum += __int_as_float(bits);
      // Choice j is kept by lane j % 32, which divides it when the sum is known.
      if (choice % kWarpSize == lane) {
        p.indices[row.token * p.top_k + choice] = expert;
        p.gates[row.token * p.top_k + choice] = __int_as_float(bits);
        if (!p.prioritized) block.counts.add(choice, expert);
      }
      if (p.prioritized && choice == 0 && lane == 0) write_key(p, row.token, bits);
    }
    const float divisor = gate_divisor(p, sum);
    for (int choice = lane; choice < p.top_k; choice += kWarpSize) {
      p.gates[row.token * p.top_k + choice] /= divisor;
    }
  }
  block.end();
}

template <int kWidth>
void (*choose_for(std::int64_t experts))(RouteParams) {
  if (experts <= 8) return choose_kernel<1, 8, kWidth>;
  if (experts <= 16) return choose_kernel<2, 8, kWidth>;
  if (experts <= 32) return choose_kernel<4, 8, kWidth>;
  if (experts <= 64) return choose_kernel<8, 8, kWidth>;
  if (experts <= 128) return choose_kernel<16, 8, kWidth>;
  if (experts <= 256) return choose_kernel<32, 8, kWidth>;
  if (experts <= 512) return choose_kernel<32, 16, kWidth>;
  return choose_many_kernel;
}

}  // namespace

void choose_experts(const RouteParams& p, cudaStream_t stream) {
  const bool vectors = p.num_experts % 4 == 0 && aligned_to({p.logits, p.scores}, kVectorBytes);
  auto* choose = vectors ? choose_for<4>(p.num_experts) : choose_for<1>(p.num_experts);
  choose<<<grid_size(p.num_tiles), kChooseThreads, route_shared_bytes(p), stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
