#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "runtime/moe_config.h"

namespace flex {

/// Which part of a whole parameter one rank holds: experts [expert_begin, +experts), and of each of them rows
/// [row_begin, +rows) of `full_rows`, each of `inner` elements. Rows past full_rows are padding and zero. The
/// same for every plan.
struct Shard {
  std::int64_t expert_begin = 0;
  std::int64_t experts = 1;
  std::int64_t row_begin = 0;
  std::int64_t rows = 1;
  std::int64_t full_rows = 1;
  std::int64_t inner = 1;
};

/// Elements that are neighbours both in a shard and in the whole parameter.
struct ShardRun {
  std::int64_t local = 0;  ///< first element in the shard
  std::int64_t whole = 0;  ///< first element in the whole parameter
  std::int64_t count = 0;
};
/// All that a shard holds but its padding, in the order of the whole parameter.
[[nodiscard]] std::vector<ShardRun> runs_of(const Shard& shard);

/// One parameter as this rank holds it, with its gradient.
struct Parameter {
  std::string name;        ///< e.g. `experts.batched_fc1_w`
  Shape full_shape;        ///< of the whole parameter
  bool replicated = true;  ///< every rank holds all of it (the gate), or its shard (the experts)
  bool trained = true;     ///< false: the gradient stays zero
  Shard shard;             ///< meaningless when replicated
  Tensor value{};
  Tensor gradient{};  ///< of value's shape; written by each backward pass, already summed over ranks
};

/// The parameters of one layer in one layout that every plan uses. Rank p of W holds, when E >= W, experts
/// [p*E/W, (p+1)*E/W) whole; when W > E, with s = W/E, expert p / s and of it slice j = p % s: H/s hidden
/// rows of fc1_w, fc1_bias and fc2_w, and ceil(M/s) columns of fc2_bias. @source numerics.md "Parallelism"
class MoeParameters {
 public:
  /// Initial values depend on config.seed, the name and the element's place in the whole parameter alone, so
  /// that they are the same for any number of ranks: uniform in +-1/sqrt(fan-in), temperature ln(1 / init_t).
  MoeParameters(const MoeConfig& config, int world, int rank, Device device);

  [[nodiscard]] std::vector<Parameter>& all() { return parameters_; }
  [[nodiscard]] const std::vector<Parameter>& all() const { return parameters_; }
  /// @throws InputError listing the names there are.
  [[nodiscard]] Parameter& at(std::string_view name);
  /// Null if the layer has none of that name.
  [[nodiscard]] Parameter* find(std::string_view name);

 private:
  std::vector<Parameter> parameters_;
};

/// The experts' values, and their gradients, as the experts' kernels take them. What the layer does not have
/// is absent, and so is the gradient of what is not trained.
[[nodiscard]] ExpertParameters<TensorView> expert_values(MoeParameters& parameters);
[[nodiscard]] ExpertParameters<TensorView> expert_gradients(MoeParameters& parameters);
/// The same views for reading.
[[nodiscard]] ExpertParameters<ConstTensorView> as_const(const ExpertParameters<TensorView>& views);

/// The shard of a parameter that `rank` of `world` holds, from the one that this rank holds.
[[nodiscard]] Shard shard_of_rank(const Parameter& parameter, int world, int rank);

/// Copies this rank's part of `whole` (host memory, the parameter's full_shape and type) into `parameter`.
/// Blocking.
void load_parameter(Parameter& parameter, ConstTensorView whole);
/// Copies this rank's part of value or gradient into its place in `whole` (host memory); other places are
/// left alone. Blocking.
void store_shard(const Parameter& parameter, const Tensor& value_or_gradient, TensorView whole);

}  // namespace flex
