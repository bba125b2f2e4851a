#include "models/reference_batches.h"

#include <algorithm>

#include "base/require.h"
#include "kernels/host_element.h"

namespace flex {
namespace {

constexpr std::string_view kParameter = "init.";

// Host memory in `dtype` (in the gate's type of it, if wide).
Tensor host_tensor(const std::vector<float>& values, const Shape& shape, DType dtype) {
  Tensor tensor(dtype, shape);
  for (std::int64_t i = 0; i < tensor.num_elements(); ++i)
    set_host_element(tensor, i, static_cast<double>(values[static_cast<std::size_t>(i)]));
  return tensor;
}

}  // namespace

ReferenceBatches::ReferenceBatches(const ReferenceModel& reference, DType dtype, int world, int rank) {
  const std::int64_t batch = reference.training.batch_size;
  require(batch % world == 0, "a batch of {} does not spread over {} ranks", batch, world);
  const std::int64_t own = batch / world;
  const std::int64_t size = reference.model.image_size;
  const Shape shape = {own, ModelConfig::kImageChannels, size, size};
  for (std::int64_t i = 0; i < reference.num_batches; ++i) {
    const std::int64_t first = i * batch + rank * own;
    const auto* pixels = reference.images.data() + first * shape.inner();
    images_.push_back(host_tensor({pixels, pixels + own * shape.inner()}, shape, gate_dtype(dtype)));
    Tensor& labels = labels_.emplace_back(DType::kI32, Shape{own});
    std::copy_n(reference.labels.begin() + first, own, labels.as<std::int32_t>());
  }
}

ImageBatch ReferenceBatches::at(std::int64_t step) const& {
  const auto index = static_cast<std::size_t>(step) % images_.size();
  return {images_[index], labels_[index]};
}

void load_reference_parameters(const ReferenceModel& reference, DType dtype, ModelParameters& parameters) {
  for (const SafetensorsTensor* tensor : reference.parameters) {
    const ModelParameter& parameter = parameters.at(tensor->name.substr(kParameter.size()));
    const Shape& shape = parameter.spec.shape;
    require(tensor->num_elements() == shape.num_elements(), "tensor {} has {} elements, expected {}",
            tensor->name, tensor->num_elements(), to_string(shape));
    parameters.load(parameter.spec.name, host_tensor(tensor->values<float>(), shape,
                                                     parameter.spec.is_wide ? gate_dtype(dtype) : dtype));
  }
  require(reference.parameters.size() == parameters.all().size(),
          "the file holds {} parameters, the model {}", reference.parameters.size(), parameters.all().size());
}

}  // namespace flex
