#pragma once

#include "costmodel/workload.h"

namespace flex {

/// One iteration of one layer, as every rank knows it when its plans are chosen.
struct LayerLoad {
  Workload workload;  ///< of the forward pass, agreed: the largest T, and C
  /// Tokens of the fullest expert over those of the mean one, over all ranks. 1 where the time of a pass does
  /// not depend on the routing, as with a fixed capacity.
  double max_over_mean = 1;
};

}  // namespace flex
