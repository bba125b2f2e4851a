#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/moe_layer.h"
#include "runtime/pass_timers.h"
#include "runtime/rank_context.h"
#include "traces/routing_trace.h"
#include "traces/trace_writer.h"

namespace flex {

/// A layer as the header of a recording has it: `num_tokens` of one rank in a full batch; k, f and
/// equal_tokens of `call`, which may change from pass to pass.
[[nodiscard]] TraceLayer trace_layer_of(const MoeConfig& config, const ForwardCall& call,
                                        std::int64_t num_tokens, int world);
/// The header of a recording on this job, whose device it names. Collective. @throws CommError, DeviceError.
[[nodiscard]] TraceHeader recorded_header(std::string model, std::vector<TraceLayer> layers,
                                          RankContext& context);

/// Records the routing of a model's layers while it runs: for each pass the choices of all ranks before any
/// were dropped, its plan, and what it took on the slowest rank. One on every rank; rank 0 has the file.
///
/// Layers run through an AdaptiveLayer or a RecordedLayer. The first forward pass of a layer that has run in
/// the step already begins the next step: micro-batches count as steps, and a layer may sit one out.
///
/// What a step did is brought together when the step after the next begins, by one exchange of host numbers
/// for all layers: durations, and, with f > 0, the counts, which the passes have left in host memory. By then
/// each layer has waited for its passes, which is all that recording waits for on a device. What a dropless
/// layer has agreed on anyway is taken from there. A recording that falls behind its disk drops passes and
/// counts them, as TraceWriter says; a run goes on with a full one.
///
/// After warm-up nothing is allocated but, on rank 0, the memory of the records that wait to be written.
class TraceRecorder {
 public:
  /// All ranks pass the same header. @throws InputError for one that is not of this job, or cannot be;
  /// on rank 0 FileError if the file cannot be made.
  TraceRecorder(const std::filesystem::path& file, const TraceHeader& header, RankContext& context,
                TraceWriterOptions options = {});
  /// @param writer of the same header; null on all ranks but 0.
  TraceRecorder(std::unique_ptr<TraceWriter> writer, const TraceHeader& header, RankContext& context);
  /// Ends the file. Passes that the ranks have not told each other of count as dropped.
  ~TraceRecorder();
  TraceRecorder(const TraceRecorder&) = delete;
  TraceRecorder& operator=(const TraceRecorder&) = delete;

  /// After the last pass, while the layers live: waits for it and brings in what is not yet. Collective.
  /// @throws what a failed stream holds; CommError.
  void finish_blocking();
  /// Ends the file; nothing on other ranks than 0. @throws FileError if not all of it could be written.
  std::optional<TraceTrailer> close();

  // What follows is for those that run layers.

  /// `layer` and `timers` of layer `index` live until finish_blocking().
  /// @throws InputError for an index that the header does not have or that is taken, or another layer.
  void attach(std::int64_t index, const MoeLayer& layer, const PassTimers& timers);
  /// Waits for this layer's last pass. Returns what the ranks must now bring together: by one exchange in
  /// which all ranks have as many words, and take(). Mostly nothing. Valid until the next call.
  [[nodiscard]] std::span<const std::int64_t> begin_forward_blocking(std::int64_t index);
  /// @param all `stride` words of each rank, in which the recorder's begin at `offset`.
  void take(std::span<const std::int64_t> all, std::size_t stride, std::size_t offset);
  /// The exchange, for one that has none. Collective. @throws CommError.
  void exchange_blocking();
  /// The call had keep_counts.
  void end_forward(std::int64_t index, const ForwardCall& call, const ForwardResult& result);
  void end_backward(std::int64_t index);

 private:
  /// A forward pass of a layer and its backward pass.
  struct Passes {
    std::int64_t step = kNone;
    PlanPair plans;
    std::int64_t top_k = 0;
    double capacity_factor = 0;
    bool ran_backward = false;
    bool agreed = false;                   ///< all ranks know all counts
    SparseCounts counts;                   ///< those, on rank 0
    std::vector<std::int32_t> own_counts;  ///< (E) otherwise, once they are there
    PassDurations durations;               ///< on this rank, once they are over
  };
  /// Passes move from one to the next.
  struct Layer {
    const MoeLayer* layer = nullptr;
    const PassTimers* timers = nullptr;
    std::int64_t last_step = kNone;
    Passes running;   ///< the last ones
    Passes measured;  ///< those before: over on this rank
    Passes sent;      ///< in words_
  };
  static constexpr std::int64_t kNone = -1;

  [[nodiscard]] Layer& layer_at(std::int64_t index);
  void begin_step_blocking();
  static void measure_blocking(Layer& layer);
  void send_measured();
  void record_forward(std::int64_t index, Passes& passes, std::int64_t duration_ns);
  void record_backward(std::int64_t index, const Passes& passes, std::int64_t duration_ns);
  [[nodiscard]] std::int64_t num_unrecorded() const;

  std::unique_ptr<TraceWriter> writer_;  // rank 0 only
  TraceHeader header_;
  RankContext& context_;
  std::vector<Layer> layers_;
  std::int64_t step_ = 0;
  std::vector<std::int64_t> words_, all_words_;
  std::vector<std::int32_t> row_;  // counts of one rank
  TraceRecord record_;
  bool is_closed_ = false;
};

}  // namespace flex
