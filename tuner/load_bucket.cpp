#include "tuner/load_bucket.h"

#include <bit>

#include "tuner/trial.h"

namespace flex {
namespace {

Workload without_load(const Workload& workload) {
  Workload shape = workload;
  shape.capacity = shape.num_tokens = 0;
  return shape;
}

int width_of(std::int64_t tokens) {
  return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(tokens)));
}

}  // namespace

BucketShape::BucketShape(const Workload& workload)
    : workload_(without_load(workload)),
      tokens_width_(width_of(workload.num_tokens)),
      id_(layer_id(layer_of(workload))) {}

bool BucketShape::matches(const Workload& other) const {
  return tokens_width_ == width_of(other.num_tokens) && workload_ == without_load(other);
}

}  // namespace flex
