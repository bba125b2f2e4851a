#include "traces/import_megatron.h"

#include <algorithm>

#include "base/require.h"

namespace flex {

std::vector<std::filesystem::path> router_trace_files(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    require(std::filesystem::exists(path), "there is no file or folder {}", path.string());
    return {path};
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")) files.push_back(entry.path());
  }
  require(!files.empty(), "the folder {} has no files that end in .jsonl or .jsonl.gz", path.string());
  std::ranges::sort(files);
  return files;
}

MegatronImport::MegatronImport(std::span<const std::filesystem::path> files,
                               const MegatronImportOptions& options) {
  require(!files.empty(), "no files to import");
  for (const std::filesystem::path& file : files) {
    files_.push_back(std::make_unique<RouterTraceFile>(file, options.layer.workload.num_experts));
  }
  std::ranges::sort(files_, {}, [](const auto& file) { return file->rank(); });
  require_all_ranks();
  header_ = {.model = options.model,
             .hardware = options.hardware,
             .world = static_cast<int>(files_.size()),
             .ranks_per_node = options.ranks_per_node,
             .origins = {{.source = TraceSource::kImported,
                          .file = files_.front()->file(),
                          .world = static_cast<std::int64_t>(files_.size())}}};
  read_step();
  for (const std::vector<RouterPass>& passes : step_) {
    TraceLayer layer = options.layer;
    Workload& w = layer.workload;
    w.world = header_.world;
    w.top_k = passes.front().top_k;
    w.num_tokens = std::ranges::max(passes, {}, &RouterPass::num_tokens).num_tokens;
    w.dropless = layer.capacity_factor <= 0;
    header_.layers.push_back(layer);
  }
  validate(header_);
}

void MegatronImport::require_all_ranks() const {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const std::int64_t rank = files_[i]->rank();
    require(i == 0 || rank != files_[i - 1]->rank(), "{} and {} are both of rank {}",
            files_[i == 0 ? 0 : i - 1]->file(), files_[i]->file(), rank);
    require(rank == static_cast<std::int64_t>(i),
            "rank {} is missing: of {} file(s) the next is {}, of rank {}", i, files_.size(),
            files_[i]->file(), rank);
  }
}

void MegatronImport::check_pass(const RouterTraceFile& file, const RouterPass& pass,
                                std::size_t layer) const {
  const RouterPass& first = step_[layer].front();
  require(pass.top_k == first.top_k, "{}:{}: topk: is {}; {}:{} has {} for {}", file.file(), pass.line,
          pass.top_k, files_.front()->file(), first.line, first.top_k, to_string(pass.layer));
  const bool is_known = layer < header_.layers.size();  // not in the first step
  require(!is_known || pass.top_k == header_.layers[layer].workload.top_k,
          "{}:{}: topk: is {}; in the steps before it was {}", file.file(), pass.line, pass.top_k,
          is_known ? header_.layers[layer].workload.top_k : 0);
}

// Lines of a step may stand in any order.
void MegatronImport::sort_step(const RouterTraceFile& file, std::vector<RouterPass> passes,
                               std::size_t rank) {
  const std::int64_t step = passes.front().step;
  for (RouterPass& pass : passes) {
    const auto name = std::ranges::find(names_, pass.layer);
    require(name != names_.end(), "{}:{}: {} is none of the {} layer(s) that {} has in its first step",
            file.file(), pass.line, to_string(pass.layer), names_.size(), files_.front()->file());
    step_[static_cast<std::size_t>(name - names_.begin())].push_back(std::move(pass));
  }
  for (std::size_t layer = 0; layer < names_.size(); ++layer) {
    require(step_[layer].size() == rank + 1, "{}: step {} has no line of {}", file.file(), step,
            to_string(names_[layer]));
    check_pass(file, step_[layer].back(), layer);
  }
}

void MegatronImport::read_step() {
  step_.clear();
  next_layer_ = 0;
  const RouterTraceFile& first_file = *files_.front();
  std::vector<RouterPass> first = files_.front()->next_step();
  const bool is_end = first.empty();
  const std::int64_t step = is_end ? 0 : first.front().step;
  const std::int64_t line = is_end ? 0 : first.front().line;
  if (names_.empty()) {
    for (const RouterPass& pass : first) names_.push_back(pass.layer);
  }
  if (!is_end) {
    step_.resize(names_.size());
    sort_step(first_file, std::move(first), 0);
  }
  for (std::size_t rank = 1; rank < files_.size(); ++rank) {
    RouterTraceFile& file = *files_[rank];
    std::vector<RouterPass> passes = file.next_step();
    require(!is_end || passes.empty(), "{}:{}: goes on with step {}, where {} has ended", file.file(),
            passes.empty() ? 0 : passes.front().line, passes.empty() ? 0 : passes.front().step,
            first_file.file());
    if (is_end) continue;
    require(!passes.empty(), "{}: has ended, where {}:{} goes on with step {}", file.file(),
            first_file.file(), line, step);
    require(passes.front().step == step, "{}:{}: step: is {}; {}:{} has {}", file.file(), passes.front().line,
            passes.front().step, first_file.file(), line, step);
    sort_step(file, std::move(passes), rank);
  }
}

bool MegatronImport::next(TraceRecord& record) {
  if (next_layer_ == step_.size() && !step_.empty()) read_step();
  if (step_.empty()) return false;
  record = {.step = step_[next_layer_].front().step, .layer = static_cast<std::int32_t>(next_layer_)};
  for (std::size_t rank = 0; rank < files_.size(); ++rank) {
    const RouterPass& pass = step_[next_layer_][rank];
    if (pass.counts.empty()) continue;
    record.counts.begin_row(static_cast<std::int32_t>(rank));
    for (const ExpertCount& entry : pass.counts) record.counts.add(entry.expert, entry.choices);
  }
  ++next_layer_;
  return true;
}

}  // namespace flex
