#pragma once

#include "tests/support/reference_layer.h"

namespace flex::testing {

/// What the parts of the reference layer work on; both outlive it.
struct ReferenceLayerView {
  const ReferenceConfig& config;
  const ReferenceParameters& parameters;
};

}  // namespace flex::testing
