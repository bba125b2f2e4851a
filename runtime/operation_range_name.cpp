#include "runtime/operation_range_name.h"

namespace flex {
namespace {

std::string_view text_of(Direction direction) {
  switch (direction) {
    case Direction::kDispatch:
      return "dispatch";
    case Direction::kCombine:
      return "combine";
    case Direction::kNone:
      break;
  }
  return {};
}

}  // namespace

RangeName operation_range_name(const Operation& operation, const Plan& plan, std::int32_t layer) {
  const bool is_exchange = operation.direction != Direction::kNone;
  return RangeName({.layer = layer,
                    .direction = text_of(operation.direction),
                    .operation = name(operation.kind),
                    .chunk = operation.chunk,
                    .num_chunks = operation.num_chunks,
                    .all_to_all = is_exchange ? name(plan.all_to_all) : std::string_view{}});
}

}  // namespace flex
