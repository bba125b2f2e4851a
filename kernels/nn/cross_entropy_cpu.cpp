#include <algorithm>
#include <cmath>

#include "kernels/matrix_map.h"
#include "kernels/nn/cross_entropy.h"

namespace flex {

template <class T>
void cross_entropy_cpu(const CrossEntropyArgs& args) {
  const std::int64_t samples = args.logits.size(0);
  const std::int64_t classes = args.logits.size(1);
  const auto smoothing = static_cast<T>(args.label_smoothing);
  const auto batch = static_cast<T>(std::max<std::int64_t>(args.batch == 0 ? samples : args.batch, 1));
  const auto target = [&](std::int64_t sample, std::int64_t k) {
    const T given = args.labels.present() ? T(args.labels.as<std::int32_t>()[sample] == k ? 1 : 0)
                                          : args.targets.slice<T>(sample)[k];
    return (T(1) - smoothing) * given + smoothing / static_cast<T>(classes);
  };
  T total = T(0);
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    const auto logits = row_of<T>(args.logits, sample);
    const T largest = logits.maxCoeff();
    T sum = T(0);
    for (std::int64_t k = 0; k < classes; ++k) sum += std::exp(logits[k] - largest);
    const T logsumexp = largest + std::log(sum);
    T loss = T(0);
    T mass = T(0);  // of the targets: 1 but for rounding, unless the caller wants another
    for (std::int64_t k = 0; k < classes; ++k) {
      loss += target(sample, k) * (logsumexp - logits[k]);
      mass += target(sample, k);
    }
    args.losses.as<T>()[sample] = loss;
    total += loss;
    if (!args.dlogits.present()) continue;
    const T scale = static_cast<T>(args.dloss) / batch;
    auto dlogits = row_of<T>(args.dlogits, sample);
    for (std::int64_t k = 0; k < classes; ++k) {
      dlogits[k] = scale * (std::exp(logits[k] - logsumexp) * mass - target(sample, k));
    }
  }
  args.loss.as<T>()[0] = total / batch;
}

template void cross_entropy_cpu<float>(const CrossEntropyArgs&);
template void cross_entropy_cpu<double>(const CrossEntropyArgs&);

}  // namespace flex
