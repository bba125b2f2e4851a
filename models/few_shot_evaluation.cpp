#include "models/few_shot_evaluation.h"

#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "models/data/subset_set.h"

namespace flex {
namespace {

// Features without labels.
FeatureTable unlabelled(ConstTensorView features) {
  const std::int64_t batch = features.size(0);
  std::vector<std::int64_t> samples(static_cast<std::size_t>(batch));
  std::iota(samples.begin(), samples.end(), 0);
  const Tensor labels = Tensor::zeros(DType::kI32, {batch});
  FeatureTable table(features.size(1));
  table.add(features, labels, samples);
  return table;
}

}  // namespace

std::optional<LinearProbe> fit_few_shot_probe_blocking(ImageClassifier& classifier,
                                                       const std::shared_ptr<const ImageSet>& images,
                                                       const FewShotOptions& shots,
                                                       const LoaderOptions& options, RankContext& context,
                                                       const EvaluationProgress& progress) {
  const ModelConfig& model = classifier.model().config();
  std::vector<std::int32_t> labels;
  for (std::int64_t image = 0; image < images->num_images(); ++image) labels.push_back(images->label(image));
  const auto picked =
      std::make_shared<SubsetSet>(images, pick_few_shots(labels, model.num_classes, shots.shots, shots.seed));
  FeatureTable table(model.dim(ModelConfig::kNumStages - 1));
  ConstTensorView features;
  const auto infer = [&](ConstTensorView batch) {
    const ConstTensorView logits = classifier.infer_blocking(batch);
    features = classifier.features_blocking();
    return logits;
  };
  const auto visit = [&](const InferredImage& image) {
    const std::array<std::int64_t, 1> sample = {image.image};
    table.add(batch_row(features, image.row), image.label, sample);
  };
  if (!infer_set_blocking(infer, picked, options, context, visit, progress)) return std::nullopt;
  table.gather_over_ranks_blocking(context);
  return LinearProbe(table, model.num_classes, shots.ridge);
}

InferenceFunction probing(ImageClassifier& classifier, const LinearProbe& probe) {
  return [&classifier, &probe, scores = std::make_shared<Tensor>()](ConstTensorView images) {
    static_cast<void>(classifier.infer_blocking(images));
    *scores = probe.scores(unlabelled(classifier.features_blocking()));
    return ConstTensorView(*scores);
  };
}

}  // namespace flex
