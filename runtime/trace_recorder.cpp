#include "runtime/trace_recorder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/require.h"
#include "runtime/environment.h"

namespace flex {
namespace {

/// Words of a layer in the exchange, before its counts.
enum Word : std::size_t { kForwardNs, kBackwardNs, kNumWords };

/// Counts travel two to a word.
std::size_t num_count_words(std::size_t num_experts) { return (num_experts + 1) / 2; }

/// A row, unless the rank has no tokens.
template <class T>
void append_row(std::int32_t source, std::span<const T> row, SparseCounts& counts) {
  bool has_row = false;
  for (std::size_t expert = 0; expert < row.size(); ++expert) {
    if (row[expert] == 0) continue;
    if (!std::exchange(has_row, true)) counts.begin_row(source);
    counts.add(static_cast<std::int32_t>(expert), static_cast<std::int32_t>(row[expert]));
  }
}

std::unique_ptr<TraceWriter> open_on_rank_0(const std::filesystem::path& file, const TraceHeader& header,
                                            const RankContext& context, TraceWriterOptions options) {
  if (context.rank() != 0) return nullptr;
  return std::make_unique<TraceWriter>(file, header, options);
}

}  // namespace

TraceLayer trace_layer_of(const MoeConfig& config, const ForwardCall& call, std::int64_t num_tokens,
                          int world) {
  TraceLayer layer{.workload = workload_of(config, world), .capacity_factor = call.capacity_factor};
  layer.workload.num_tokens = num_tokens;
  layer.workload.top_k = call.top_k;
  layer.workload.dropless = call.capacity_factor <= 0;
  layer.workload.agree_on_tokens = !call.equal_tokens;
  layer.workload.gate_noise = call.add_noise && config.gate_noise > 0;
  return layer;
}

TraceHeader recorded_header(std::string model, std::vector<TraceLayer> layers, RankContext& context) {
  return {.model = std::move(model),
          .hardware = environment_of(context).device,
          .world = context.size(),
          .ranks_per_node = static_cast<int>(context.cluster().ranks_per_node),
          .layers = std::move(layers),
          .origins = {{.source = TraceSource::kRecorded}}};
}

TraceRecorder::TraceRecorder(const std::filesystem::path& file, const TraceHeader& header,
                             RankContext& context, TraceWriterOptions options)
    : TraceRecorder(open_on_rank_0(file, header, context, options), header, context) {}

TraceRecorder::TraceRecorder(std::unique_ptr<TraceWriter> writer, const TraceHeader& header,
                             RankContext& context)
    : writer_(std::move(writer)), header_(header), context_(context), layers_(header.layers.size()) {
  validate(header);
  require(header.world == context.size(), "the header of a recording is for {} ranks; the job has {}",
          header.world, context.size());
  require((writer_ != nullptr) == (context.rank() == 0), "rank {}: rank 0 alone writes a recording",
          context.rank());
}

TraceRecorder::~TraceRecorder() {
  // A layer may be gone; what its timers have to say with it.
  if (writer_ != nullptr && !is_closed_) writer_->drop(num_unrecorded());
}

TraceRecorder::Layer& TraceRecorder::layer_at(std::int64_t index) {
  require(index >= 0 && static_cast<std::size_t>(index) < layers_.size(),
          "layer {} is not in the header of the recording, which has {} layers", index, layers_.size());
  return layers_[static_cast<std::size_t>(index)];
}

void TraceRecorder::attach(std::int64_t index, const MoeLayer& layer, const PassTimers& timers) {
  Layer& state = layer_at(index);
  require(state.layer == nullptr, "layer {} is recorded already", index);
  const Workload& described = header_.layers[static_cast<std::size_t>(index)].workload;
  const MoeConfig& config = layer.config();
  require(described.num_experts == config.num_experts && described.model_dim == config.model_dim &&
              described.hidden_dim == config.hidden_dim && described.dtype == config.dtype,
          "layer {} is not as the header of the recording has it: {} experts, M = {}, H = {}, {}", index,
          described.num_experts, described.model_dim, described.hidden_dim, name(described.dtype));
  state.layer = &layer;
  state.timers = &timers;
}

void TraceRecorder::measure_blocking(Layer& layer) {
  if (layer.running.step == kNone) return;
  layer.running.durations = layer.timers->durations_blocking();
  if (!layer.running.agreed) {
    const std::span<const std::int32_t> counts = layer.layer->host_counts();
    layer.running.own_counts.assign(counts.begin(), counts.end());
  }
  std::swap(layer.running, layer.measured);
  layer.running.step = kNone;
}

std::span<const std::int64_t> TraceRecorder::begin_forward_blocking(std::int64_t index) {
  Layer& layer = layer_at(index);
  words_.clear();
  if (layer.last_step == step_) begin_step_blocking();
  // Its timers and host counts are about to be used again.
  measure_blocking(layer);
  return words_;
}

void TraceRecorder::begin_step_blocking() {
  ++step_;
  // Layers that sat the last step out have not been measured yet; their passes are long over.
  for (Layer& layer : layers_) {
    if (layer.running.step < step_ - 1) measure_blocking(layer);
  }
  send_measured();
}

void TraceRecorder::send_measured() {
  for (Layer& layer : layers_) {
    if (layer.measured.step == kNone) continue;
    const Passes& passes = layer.measured;
    words_.push_back(passes.durations.forward_ns);
    words_.push_back(passes.durations.backward_ns);
    if (!passes.agreed) {
      const std::size_t begin = words_.size();
      words_.resize(begin + num_count_words(passes.own_counts.size()));
      std::memcpy(words_.data() + begin, passes.own_counts.data(),
                  passes.own_counts.size() * sizeof(std::int32_t));
    }
    std::swap(layer.measured, layer.sent);
    layer.measured.step = kNone;
  }
}

void TraceRecorder::exchange_blocking() {
  if (words_.empty()) return;
  all_words_.resize(words_.size() * static_cast<std::size_t>(context_.size()));
  context_.control().gather_host_blocking(words_, all_words_);
  take(all_words_, words_.size(), 0);
}

void TraceRecorder::take(std::span<const std::int64_t> all, std::size_t stride, std::size_t offset) {
  for (std::size_t index = 0; index < layers_.size(); ++index) {
    Passes& passes = layers_[index].sent;
    if (passes.step == kNone) continue;
    const std::size_t num_experts = passes.own_counts.size();
    const auto world = static_cast<std::size_t>(context_.size());
    PassDurations slowest;
    if (!passes.agreed) passes.counts.clear();
    for (std::size_t rank = 0; writer_ != nullptr && rank < world; ++rank) {
      const std::int64_t* const words = all.data() + rank * stride + offset;
      slowest.forward_ns = std::max(slowest.forward_ns, words[kForwardNs]);
      slowest.backward_ns = std::max(slowest.backward_ns, words[kBackwardNs]);
      if (passes.agreed) continue;
      row_.resize(num_experts);
      std::memcpy(row_.data(), words + kNumWords, num_experts * sizeof(std::int32_t));
      append_row(static_cast<std::int32_t>(rank), std::span<const std::int32_t>(row_), passes.counts);
    }
    if (writer_ != nullptr) {
      record_forward(static_cast<std::int64_t>(index), passes, slowest.forward_ns);
      if (passes.ran_backward) {
        record_backward(static_cast<std::int64_t>(index), passes, slowest.backward_ns);
      }
    }
    offset += kNumWords + (passes.agreed ? 0 : num_count_words(num_experts));
    passes.step = kNone;
  }
}

void TraceRecorder::record_forward(std::int64_t index, Passes& passes, std::int64_t duration_ns) {
  const TraceLayer& described = header_.layers[static_cast<std::size_t>(index)];
  record_.step = passes.step;
  record_.layer = static_cast<std::int32_t>(index);
  record_.pass = Pass::kForward;
  record_.plan = passes.plans.forward;
  record_.duration_ns = duration_ns;
  record_.top_k.reset();
  if (passes.top_k != described.workload.top_k) record_.top_k = passes.top_k;
  record_.capacity_factor.reset();
  if (passes.capacity_factor != described.capacity_factor) record_.capacity_factor = passes.capacity_factor;
  std::swap(record_.counts, passes.counts);
  writer_->record(record_);
}

void TraceRecorder::record_backward(std::int64_t index, const Passes& passes, std::int64_t duration_ns) {
  record_.step = passes.step;
  record_.layer = static_cast<std::int32_t>(index);
  record_.pass = Pass::kBackward;
  record_.plan = passes.plans.backward;
  record_.duration_ns = duration_ns;
  record_.top_k.reset();
  record_.capacity_factor.reset();
  record_.counts.clear();
  writer_->record(record_);
}

void TraceRecorder::end_forward(std::int64_t index, const ForwardCall& call, const ForwardResult& result) {
  Layer& layer = layer_at(index);
  layer.last_step = step_;
  Passes& passes = layer.running;
  passes.step = step_;
  passes.plans = result.plans;
  passes.top_k = call.top_k;
  passes.capacity_factor = call.capacity_factor;
  passes.ran_backward = false;
  passes.agreed = call.capacity_factor <= 0;
  passes.own_counts.clear();
  if (!passes.agreed || writer_ == nullptr) return;
  passes.counts.clear();
  const std::span<const std::int64_t> all = layer.layer->source_counts();
  const std::size_t num_experts = all.size() / static_cast<std::size_t>(context_.size());
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(context_.size()); ++rank) {
    append_row(static_cast<std::int32_t>(rank), all.subspan(rank * num_experts, num_experts), passes.counts);
  }
}

void TraceRecorder::end_backward(std::int64_t index) { layer_at(index).running.ran_backward = true; }

void TraceRecorder::finish_blocking() {
  // As if two more steps began.
  for (int i = 0; i < 2; ++i) {
    words_.clear();
    begin_step_blocking();
    exchange_blocking();
  }
}

std::int64_t TraceRecorder::num_unrecorded() const {
  std::int64_t number = 0;
  for (const Layer& layer : layers_) {
    for (const Passes* passes : {&layer.running, &layer.measured, &layer.sent}) {
      if (passes->step != kNone) number += passes->ran_backward ? 2 : 1;
    }
  }
  return number;
}

std::optional<TraceTrailer> TraceRecorder::close() {
  is_closed_ = true;
  if (writer_ == nullptr) return std::nullopt;
  writer_->drop(num_unrecorded());
  return writer_->close();
}

}  // namespace flex
