#include "models/classify_images.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "kernels/host_element.h"
#include "models/data/image_file.h"
#include "runtime/gather_texts.h"
#include "runtime/max_over_ranks.h"

namespace flex {
namespace {

namespace fs = std::filesystem;

constexpr char kEndOfError = '\0';  // no path holds it, and no message

/// Makes this rank's rows of batches.
class FileBatch {
 public:
  FileBatch(SwinV2Moe& model, const AugmentConfig& augment, Device device)
      : maker_(augment, model.config().image_size),
        images_(Tensor::staging(gate_dtype(model.options().dtype),
                                {model.options().batch, ModelConfig::kImageChannels,
                                 model.config().image_size, model.config().image_size},
                                device)) {}

  [[nodiscard]] ConstTensorView images() const { return images_; }
  /// Row `row` shows the file; it is zeros if there is none. Returns why it could not be read, or nothing.
  std::string fill(std::int64_t row, const fs::path* file) {
    return images_.dtype() == DType::kF64 ? fill_as<double>(row, file) : fill_as<float>(row, file);
  }

 private:
  template <class T>
  std::string fill_as(std::int64_t row, const fs::path* file) {
    const std::span<T> planes(images_.view().slice<T>(row),
                              static_cast<std::size_t>(images_.shape().inner()));
    std::string error;
    try {
      if (file != nullptr) {
        maker_.make_evaluation(
            [&](std::int64_t least_side, RgbImage& image) { read_image_file(*file, least_side, image); },
            planes);
        return {};
      }
    } catch (const InputError& mistake) {
      error = mistake.what();
    } catch (const FileError& mistake) {
      error = mistake.what();
    }
    std::ranges::fill(planes, T{0});
    return error;
  }

  SampleMaker maker_;
  Tensor images_;
};

/// What one rank made of its rows of a batch, and then what all ranks made of theirs.
struct BatchResults {
  std::vector<std::int64_t> words;  // of each row label and probability of each class
  std::string errors;               // one for each row, ended by kEndOfError

  void add(std::string_view error, std::span<const ScoredClass> classes) {
    errors += error;
    errors += kEndOfError;
    for (const ScoredClass& scored : classes) {
      words.push_back(scored.label);
      words.push_back(std::bit_cast<std::int64_t>(scored.probability));
    }
  }

  void gather_blocking(Communicator& control) {
    std::vector<std::int64_t> all(words.size() * static_cast<std::size_t>(control.size()));
    control.gather_host_blocking(words, all);
    words = std::move(all);
    const std::vector<std::string> texts = gather_texts_blocking(errors, control);
    errors.clear();
    for (const std::string& text : texts) errors += text;
  }

  // The first rows are those of `images`, each of `count` classes.
  void store(std::span<ClassifiedImage> images, std::int64_t count) const {
    const std::int64_t* word = words.data();
    std::size_t begin = 0;
    for (ClassifiedImage& image : images) {
      const std::size_t end = errors.find(kEndOfError, begin);
      image.error = errors.substr(begin, end - begin);
      begin = end + 1;
      for (std::int64_t i = 0; i < count; ++i, word += 2)
        image.classes.push_back({word[0], std::bit_cast<double>(word[1])});
      if (!image.error.empty()) image.classes.clear();
    }
  }
};

// Row `row` of logits (B, K).
ConstTensorView logits_of(ConstTensorView logits, std::int64_t row) {
  return batch_row(logits, row).reshaped({logits.size(1)});
}

}  // namespace

std::vector<ScoredClass> most_probable(ConstTensorView logits, std::int64_t most) {
  const std::int64_t count = logits.num_elements();
  std::vector<ScoredClass> classes;
  double largest = -std::numeric_limits<double>::infinity();
  for (std::int64_t label = 0; label < count; ++label) {
    classes.push_back({label, host_element(logits, label)});
    largest = std::max(largest, classes.back().probability);
  }
  double sum = 0;
  for (ScoredClass& scored : classes) sum += scored.probability = std::exp(scored.probability - largest);
  for (ScoredClass& scored : classes) scored.probability /= sum;
  const auto comes_first = [](const ScoredClass& a, const ScoredClass& b) {
    if (a.probability > b.probability) return true;
    return !(b.probability > a.probability) && a.label < b.label;  // so that all of NaN are in order too
  };
  const auto middle = classes.begin() + std::min(most, count);
  std::ranges::partial_sort(classes, middle, comes_first);
  classes.erase(middle, classes.end());
  return classes;
}

std::vector<ClassifiedImage> classify_files_blocking(ImageClassifier& classifier,
                                                     std::span<const fs::path> files,
                                                     const AugmentConfig& augment, std::int64_t most,
                                                     RankContext& context,
                                                     const EvaluationProgress& progress) {
  const std::int64_t batch = classifier.model().options().batch;
  const std::int64_t global_batch = batch * context.size();
  const std::int64_t total = std::ssize(files);
  FileBatch rows(classifier.model(), augment, context.device());
  std::vector<ClassifiedImage> images;
  for (const fs::path& file : files) images.push_back({.path = file});
  for (std::int64_t first = 0; first < total; first += global_batch) {
    std::vector<std::string> errors;
    for (std::int64_t row = 0; row < batch; ++row) {
      const std::int64_t place = first + context.rank() * batch + row;
      errors.push_back(rows.fill(row, place < total ? &files[static_cast<std::size_t>(place)] : nullptr));
    }
    const ConstTensorView logits = classifier.infer_blocking(rows.images());
    BatchResults results;
    for (std::int64_t row = 0; row < batch; ++row)
      results.add(errors[static_cast<std::size_t>(row)], most_probable(logits_of(logits, row), most));
    results.gather_blocking(context.control());
    const std::int64_t end = std::min(total, first + global_batch);
    results.store(
        std::span(images).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(end - first)),
        std::min(most, logits.size(1)));
    if (progress && any_rank_blocking(!progress(end, total), context.control())) {
      images.resize(static_cast<std::size_t>(end));
      break;
    }
  }
  return images;
}

}  // namespace flex
