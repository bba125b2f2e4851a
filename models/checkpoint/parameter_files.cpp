#include "models/checkpoint/parameter_files.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
#include "base/require.h"
#include "kernels/host_element.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/merge_experts.h"

namespace flex {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kModelKey = "model";

// PyTorch's files are zip archives, or pickles of old versions.
void refuse_pytorch(const fs::path& path) {
  std::array<char, 4> magic{};
  std::ifstream file(path, std::ios::binary);
  file.read(magic.data(), magic.size());
  const std::string_view text(magic.data(), static_cast<std::size_t>(file.gcount()));
  require(!text.starts_with("PK\x03\x04") && !text.starts_with("\x80\x02"),
          "{}: is a PyTorch file, which is not read; convert it in Python: "
          "safetensors.torch.save_file(torch.load(FILE, map_location='cpu')['model'], 'NAME.safetensors')",
          path.string());
}

std::string without_suffix(const std::string& text) {
  return text.ends_with(kSuffix) ? text.substr(0, text.size() - kSuffix.size()) : text;
}

// `NAME.rank0.safetensors` and on, in rank order.
std::vector<fs::path> rank_files(const fs::path& stem) {
  const fs::path folder = stem.has_parent_path() ? stem.parent_path() : fs::path(".");
  const std::string prefix = stem.filename().string() + ".rank";
  std::vector<fs::path> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(kSuffix)) continue;
    const std::string digits = without_suffix(name).substr(prefix.size());
    std::size_t rank = 0;
    const auto [end, mistake] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
    if (mistake != std::errc{} || end != digits.data() + digits.size() || rank > 1'000'000) continue;
    if (files.size() <= rank) files.resize(rank + 1);
    files[rank] = entry.path();
  }
  for (std::size_t rank = 0; rank < files.size(); ++rank)
    require(!files[rank].empty(), "{}.rank{}{}: is missing; there are files of {} ranks", stem.string(), rank,
            kSuffix, files.size());
  return files;
}

}  // namespace

ParameterFiles::ParameterFiles(const fs::path& path) : path_(path) {
  const fs::path file = fs::is_directory(path) ? path / kModelFile : path;
  const fs::path stem = without_suffix(file.string());
  const std::vector<fs::path> ranks = rank_files(stem);
  const fs::path master = stem.string() + ".master" + std::string(kSuffix);
  if (fs::exists(file) || ranks.empty()) {
    refuse_pytorch(file);
    files_.emplace_back(file);
  } else if (fs::exists(stem.string() + std::string(kSuffix))) {
    files_.emplace_back(stem.string() + std::string(kSuffix));
  } else if (fs::exists(master)) {
    files_.emplace_back(master);
  }
  if (!files_.empty()) {
    for (const SafetensorsTensor& tensor : files_.front().tensors())
      tensors_.push_back(stored_tensor(tensor));
  }
  add_ranks(ranks);
  std::ranges::sort(tensors_, {}, &StoredTensor::name);
  for (const StoredTensor& tensor : tensors_) names_.push_back(tensor.name);
}

void ParameterFiles::add_ranks(const std::vector<fs::path>& paths) {
  num_rank_files_ = static_cast<int>(paths.size());
  if (paths.empty()) return;
  std::vector<const SafetensorsFile*> ranks;
  for (const fs::path& path : paths) ranks.push_back(&files_.emplace_back(path));
  for (const SafetensorsTensor& first : ranks.front()->tensors()) {
    const bool is_known =
        std::ranges::any_of(tensors_, [&](const StoredTensor& known) { return known.name == first.name; });
    if (is_known) continue;
    StoredTensor tensor = stored_tensor(first);
    // What is not the experts' is alike in all ranks' files.
    for (std::size_t rank = 1; is_of_experts(first.name) && rank < ranks.size(); ++rank) {
      const SafetensorsTensor* next = ranks[rank]->find(first.name);
      require(next != nullptr && next->shape == first.shape && next->dtype == first.dtype, "{}: tensor {} {}",
              paths[rank].string(), quote_name(first.name),
              next == nullptr ? "is missing" : "differs in shape or type from that of rank 0");
      tensor.pieces.push_back(next->bytes);
    }
    tensors_.push_back(std::move(tensor));
  }
  merge_experts(tensors_, path_);
}

const StoredTensor* ParameterFiles::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(
      tensors_, name, {}, [](const StoredTensor& tensor) -> std::string_view { return tensor.name; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

std::optional<ModelConfig> ParameterFiles::model() const {
  if (files_.empty()) return std::nullopt;
  const auto& metadata = files_.front().metadata();
  const auto found = metadata.find(std::string(kModelKey));
  if (found == metadata.end()) return std::nullopt;
  const std::string where = path_.string() + ": metadata model";
  JsonObject json(parse_json(found->second, where), where);
  ModelConfig config = read_model_config(json);
  json.finish();
  return config;
}

std::optional<std::array<std::int64_t, ModelConfig::kNumStages>> ParameterFiles::position_windows() const {
  std::array<std::int64_t, ModelConfig::kNumStages> windows{};
  const std::optional<ModelConfig> config = model();
  for (std::int64_t stage = 0; stage < ModelConfig::kNumStages; ++stage) {
    std::int64_t& window = windows[static_cast<std::size_t>(stage)];
    if (config) {
      window = position_window(*config, stage);
      continue;
    }
    const StoredTensor* table = find(fmt::format("layers.{}.blocks.0{}", stage, kCoordinatesBuffer));
    if (table == nullptr || !floating_dtype(table->dtype) || table->shape.size() != 4 || table->shape[1] < 3)
      return std::nullopt;
    // The last coordinate of a window w is that of w - 1 positions: log2(8 (w - 1) / (p - 1) + 1) / log2(8),
    // where p is the window that was trained with.
    Tensor last(DType::kF64, {1});
    read_elements(*table, table->num_elements() - 1, 1, last, 0);
    const double largest = std::exp2(3 * last.as<double>()[0]) - 1;
    const std::int64_t distance = table->shape[1] / 2;
    window = largest > 0 ? std::llround(8 * static_cast<double>(distance) / largest) + 1 : 0;
  }
  return windows;
}

std::int64_t position_window(const ModelConfig& config, std::int64_t stage) {
  const std::int64_t pretrained = config.pretrained_windows[static_cast<std::size_t>(stage)];
  return pretrained > 0 ? pretrained : config.window({stage, 0}).window.rows;
}

}  // namespace flex
