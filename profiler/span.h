#pragma once

#include <cstdint>
#include <string>

namespace flex {

/// One piece of work on one stream of one rank, from whatever clock: predicted, or seen by the host clock,
/// CUDA events or CUPTI.
struct Span {
  std::string name;           ///< what is shown, e.g. `dispatch/all_to_all#1of4`
  std::string process_group;  ///< timelines that belong together, e.g. `simulated`, `measured`
  std::int32_t rank = 0;
  std::string stream;           ///< `host`, `compute`, `communication`, or another track's name
  std::int64_t begin_ns = 0;    ///< on the process group's clock
  std::int64_t end_ns = 0;      ///< at least begin_ns
  std::int64_t iteration = -1;  ///< of the training or serving loop; -1: none
  std::int32_t layer = -1;      ///< MoE layer of the model; -1: none
  std::int32_t pass = -1;       ///< which of the recorded passes; -1: none
  std::int32_t operation = -1;  ///< index in that pass's schedule; -1: not an operation
  std::int32_t chunk = -1;      ///< pipeline chunk; -1: not split
  std::int64_t bytes = 0;       ///< moved; 0: does not apply
  double flops = 0;             ///< 0: does not apply
  std::string origin;  ///< where the duration comes from, e.g. `roofline`, `cuda_events`; may be empty

  friend bool operator==(const Span&, const Span&) = default;
};

}  // namespace flex
