#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "models/parameter_list.h"
#include "runtime/moe_layer.h"

namespace flex {

/// A parameter as this rank holds it. Value and gradient are the whole tensors, or an expert's shard.
struct ModelParameter {
  ParameterSpec spec;
  TensorView value;     ///< what layers read: in the model's type, or gate_dtype of it if spec.is_wide
  TensorView gradient;  ///< of the same type and shape; absent in a model that only infers
  Parameter* held_by_layer = nullptr;  ///< a MoE layer's; null: held here
};

/// All parameters of a model on one rank. Those that are not a MoE layer's lie in one buffer for each element
/// type, and their gradients too, so that all ranks reduce them in one piece.
class ModelParameters {
 public:
  /// `layers`, of the MoE blocks in their order, must outlive it. Initial values depend on `seed` and a
  /// parameter's place in the list alone. Without `trains` there are no gradients.
  ModelParameters(const ModelConfig& config, DType dtype, Device device, std::uint64_t seed,
                  const std::vector<MoeLayer*>& layers, bool trains);

  [[nodiscard]] std::vector<ModelParameter>& all() { return parameters_; }
  [[nodiscard]] const std::vector<ModelParameter>& all() const { return parameters_; }
  /// @throws InputError with the nearest name.
  [[nodiscard]] const ModelParameter& at(std::string_view name) const;
  /// Values or gradients of `count` parameters held here from `name` on, which are neighbours, with the
  /// zeros between them, as one vector: q_bias to v_bias.
  [[nodiscard]] TensorView joined_values(std::string_view first, std::string_view last) const;
  [[nodiscard]] TensorView joined_gradients(std::string_view first, std::string_view last) const;
  /// Parameters whose names hold one of `parts` are trained no more. @throws InputError that names a part
  /// which no name holds, with the nearest piece of a name; then nothing is frozen.
  void freeze(const std::vector<std::string>& parts);
  /// The buffers of gradients held here.
  [[nodiscard]] std::vector<TensorView> shared_gradients();

  /// Copies a whole parameter from host memory; a shard takes its part. Blocking. @throws InputError for a
  /// shape or type that does not fit.
  void load(std::string_view name, ConstTensorView whole);
  /// Copies this rank's value (or gradient) into its place in `whole`, of host memory; other places are left
  /// alone. Blocking.
  void store_value(std::string_view name, TensorView whole) const;
  /// @throws InputError if there is none.
  void store_gradient(std::string_view name, TensorView whole) const;

 private:
  struct Buffers {
    Tensor values;
    Tensor gradients;
    std::int64_t size = 0;
  };
  void lay_out(DType dtype, Device device, bool trains);
  void initialize(std::uint64_t seed);
  [[nodiscard]] Buffers& buffers_of(const ParameterSpec& spec) { return spec.is_wide ? wide_ : narrow_; }
  void store(const ModelParameter& parameter, bool gradient, TensorView whole) const;

  std::vector<ModelParameter> parameters_;
  std::map<std::string, std::size_t, std::less<>> index_;
  Buffers narrow_;  // of the model's type
  Buffers wide_;
};

}  // namespace flex
