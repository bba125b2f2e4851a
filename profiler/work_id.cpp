#include "profiler/work_id.h"

#include <string_view>

#include "base/require.h"

namespace flex {
namespace {

/// Where a field lies: `bits` bits from bit `shift`, holding the value plus `bias`.
struct Field {
  std::string_view name;
  int shift = 0;
  int bits = 0;
  std::int64_t bias = 0;
  std::int64_t least = 0;
  std::int64_t most = 0;
};

constexpr Field kIteration{"iteration", 37, 27, 0, 0, kMaxWorkId.iteration};
constexpr Field kLocalRank{"local rank", 31, 6, 1, 0, kMaxWorkId.local_rank};
constexpr Field kLayer{"layer", 23, 8, 1, -1, kMaxWorkId.layer};
constexpr Field kPass{"pass", 17, 6, 1, -1, kMaxWorkId.pass};
constexpr Field kOperation{"operation", 7, 10, 1, -1, kMaxWorkId.operation};
constexpr Field kChunk{"chunk", 1, 6, 1, -1, kMaxWorkId.chunk};
constexpr std::uint64_t kUnusedBits = 1;

constexpr bool holds(const Field& field) { return field.most + field.bias < (std::int64_t{1} << field.bits); }
static_assert(holds(kIteration) && holds(kLocalRank) && holds(kLayer) && holds(kPass) && holds(kOperation) &&
              holds(kChunk));

std::uint64_t packed(const Field& field, std::int64_t value) {
  require(value >= field.least && value <= field.most, "a profiled {} is {}; it is {} to {}", field.name,
          value, field.least, field.most);
  return static_cast<std::uint64_t>(value + field.bias) << field.shift;
}

/// Clears `valid` if the field holds no value.
std::int64_t value_of(const Field& field, std::uint64_t id, bool& valid) {
  const std::uint64_t mask = (std::uint64_t{1} << field.bits) - 1;
  const std::int64_t value = static_cast<std::int64_t>((id >> field.shift) & mask) - field.bias;
  valid = valid && value >= field.least && value <= field.most;
  return value;
}

}  // namespace

std::uint64_t pack(const WorkId& id) {
  return packed(kIteration, id.iteration) | packed(kLocalRank, id.local_rank) | packed(kLayer, id.layer) |
         packed(kPass, id.pass) | packed(kOperation, id.operation) | packed(kChunk, id.chunk);
}

std::optional<WorkId> unpack_work_id(std::uint64_t id) {
  bool valid = (id & kUnusedBits) == 0;
  const auto field = [&](const Field& f) { return static_cast<std::int32_t>(value_of(f, id, valid)); };
  const WorkId work{.iteration = value_of(kIteration, id, valid),
                    .local_rank = field(kLocalRank),
                    .layer = field(kLayer),
                    .pass = field(kPass),
                    .operation = field(kOperation),
                    .chunk = field(kChunk)};
  return valid ? std::optional(work) : std::nullopt;
}

}  // namespace flex
