#include "costmodel/build_schedule.h"

#include "base/require.h"
#include "costmodel/plan_space.h"
#include "kernels/moe/gate_loss.h"
#include "kernels/moe/slot_layout.h"

namespace flex {
namespace {

constexpr std::int64_t kIndexBytes = 4;  // expert indices and locations are 32-bit
constexpr std::int64_t kHostWordBytes = 8;

/// Appends operations and wires them. Same-stream order is the order of the list, so only edges between
/// streams are kept.
class Builder {
 public:
  Builder(Schedule& schedule, const Cluster& cluster)
      : s_(schedule),
        w_(schedule.workload),
        shape_(plan_shape(schedule.workload, schedule.plan)),
        cluster_(cluster),
        element_(size_bytes(schedule.workload.dtype)),
        gate_element_(size_bytes(gate_dtype(schedule.workload.dtype))) {}

  void route();
  void expert_forward();
  void expert_backward();

 private:
  static constexpr int kNone = -1;

  int add(OperationKind kind, StreamKind stream, OperationSize size, int wait_a = kNone, int wait_b = kNone);
  int add_chunk(OperationKind kind, StreamKind stream, Direction direction, std::int64_t chunk, int wait);
  int exchange(Direction direction, std::int64_t chunk, int wait);
  int dispatch_all(int encoded);
  int gather_weights();
  int sum_copies(int combined_first);
  [[nodiscard]] int combined(std::int64_t chunk) const {
    return combine_end_[static_cast<std::size_t>(chunk)];
  }

  [[nodiscard]] std::int64_t chunks() const { return s_.plan.pipeline_degree; }
  [[nodiscard]] SlotLayout layout() const {
    return {.num_experts = w_.num_experts,
            .capacity = w_.padded_capacity(),
            .parts = shape_.parts,
            .chunks = chunks()};
  }
  [[nodiscard]] OperationSize chunk_size(OperationKind kind, std::int64_t chunk) const;
  [[nodiscard]] OperationSize exchange_size(OperationKind kind, std::int64_t slots) const;
  [[nodiscard]] OperationSize moves(std::int64_t bytes) const { return {.bytes = bytes}; }
  [[nodiscard]] std::int64_t first_layer_matrices() const { return w_.ffn == FfnKind::kGated ? 2 : 1; }
  // Products of (rows x model_dim) with `matrices` weights, or into their gradients; `sides` tensors of rows
  // and model_dim take part.
  [[nodiscard]] OperationSize ffn_size(std::int64_t rows, std::int64_t matrices, std::int64_t sides) const;
  [[nodiscard]] std::int64_t token_bytes() const { return w_.num_tokens * w_.model_dim * element_; }
  [[nodiscard]] std::int64_t buffer_bytes() const {
    return w_.num_experts * w_.padded_capacity() * w_.model_dim * element_;
  }
  [[nodiscard]] OperationSize weights_size(bool gradients) const;
  [[nodiscard]] OperationSize gate_size(double products) const;

  Schedule& s_;
  const Workload& w_;
  PlanShape shape_;
  const Cluster& cluster_;
  std::int64_t element_;
  std::int64_t gate_element_;
  static constexpr std::size_t kMaxChunks = 8;
  std::array<int, kMaxChunks> dispatch_end_{};
  std::array<int, kMaxChunks> combine_end_{};
};

int Builder::add(OperationKind kind, StreamKind stream, OperationSize size, int wait_a, int wait_b) {
  Operation operation{.kind = kind, .stream = stream, .size = size};
  for (const int wait : {wait_a, wait_b}) {
    if (wait == kNone || s_.operations[static_cast<std::size_t>(wait)].stream == stream) continue;
    operation.waits[static_cast<std::size_t>(operation.num_waits++)] = static_cast<std::int16_t>(wait);
  }
  s_.operations.push_back(operation);
  return static_cast<int>(s_.operations.size()) - 1;
}

int Builder::add_chunk(OperationKind kind, StreamKind stream, Direction direction, std::int64_t chunk,
                       int wait) {
  const int index = add(kind, stream, chunk_size(kind, chunk), wait);
  Operation& operation = s_.operations[static_cast<std::size_t>(index)];
  operation.direction = direction;
  operation.chunk = static_cast<std::int32_t>(chunk);
  operation.num_chunks = static_cast<std::int32_t>(chunks());
  operation.size.slot_begin = layout().chunk_begin(chunk);
  operation.size.slots = layout().chunk_slots(chunk);
  return index;
}

OperationSize Builder::ffn_size(std::int64_t rows, std::int64_t matrices, std::int64_t sides) const {
  const std::int64_t weights = shape_.experts * matrices * w_.model_dim * shape_.columns;
  const std::int64_t activations = shape_.experts * rows * (sides * w_.model_dim + matrices * shape_.columns);
  return {.batch = shape_.experts,
          .rows = rows,
          .columns = shape_.columns,
          .bytes = (weights + activations) * element_,
          .flops = 2.0 * static_cast<double>(matrices) * static_cast<double>(shape_.experts * rows) *
                   static_cast<double>(w_.model_dim) * static_cast<double>(shape_.columns)};
}

OperationSize Builder::exchange_size(OperationKind kind, std::int64_t slots) const {
  // A rank gets `slots` rows for each of its experts from every source.
  const std::int64_t chunk_bytes = w_.local_experts() * slots * w_.model_dim * element_;
  const std::int64_t local = cluster_.ranks_per_node;
  const std::int64_t nodes = w_.world / local;
  switch (kind) {
    case OperationKind::kNodeAllToAll:
      return {.peers = local, .bytes_per_peer = chunk_bytes * nodes, .bytes = chunk_bytes * w_.world};
    case OperationKind::kRailAllToAll:
      return {.peers = nodes, .bytes_per_peer = chunk_bytes * local, .bytes = chunk_bytes * w_.world};
    case OperationKind::kAllToAll:
      return {.peers = w_.world, .bytes_per_peer = chunk_bytes, .bytes = chunk_bytes * w_.world};
    default:  // strided copies and row orders: every byte is read and written once
      return {.bytes = 2 * chunk_bytes * w_.world};
  }
}

OperationSize Builder::chunk_size(OperationKind kind, std::int64_t chunk) const {
  const std::int64_t slots = layout().chunk_slots(chunk);
  switch (kind) {
    case OperationKind::kExpertFfn:
    case OperationKind::kExpertFfnBackwardData:
      return ffn_size(shape_.sources * slots, first_layer_matrices() + 1, 2);
    case OperationKind::kSumCopies: {
      const std::int64_t piece = w_.num_experts * shape_.parts * slots * w_.model_dim * element_;
      return moves(piece * (shape_.copies + 1));
    }
    default:
      return exchange_size(kind, slots);
  }
}

OperationSize Builder::weights_size(bool gradients) const {
  const std::int64_t matrices = w_.ffn == FfnKind::kGated ? 3 : 2;
  std::int64_t own =
      matrices * (w_.hidden_dim / w_.shards()) * w_.model_dim;  // elements of one expert held here
  if (w_.ffn == FfnKind::kStandard && w_.fc1_bias) own += w_.hidden_dim / w_.shards();
  const bool bias = w_.ffn == FfnKind::kStandard && w_.fc2_bias && (!gradients || w_.train_fc2_bias);
  if (bias) own += w_.fc2_bias_slice();
  const std::int64_t bytes = own * w_.local_experts() * element_;
  return {.peers = shape_.weight_group, .bytes_per_peer = bytes, .bytes = bytes * shape_.weight_group};
}

OperationSize Builder::gate_size(double products) const {
  const auto t = static_cast<double>(w_.num_tokens);
  const auto m = static_cast<double>(w_.model_dim);
  const auto e = static_cast<double>(w_.num_experts);
  const auto p = static_cast<double>(w_.projection_dim);
  const double product = w_.gate == GateKind::kLinear ? t * m * e : t * p * (m + e);
  return {.batch = 1,
          .rows = w_.num_tokens,
          .columns = w_.gate == GateKind::kLinear ? w_.num_experts : w_.projection_dim,
          .bytes = token_bytes() + w_.num_tokens * w_.num_experts * gate_element_,
          .flops = 2.0 * product * products};
}

void Builder::route() {
  using enum OperationKind;
  const std::int64_t score_bytes = w_.num_tokens * w_.num_experts * gate_element_;
  const OperationSize agreement{
      .peers = w_.world, .bytes_per_peer = 4 * kHostWordBytes, .bytes = 4 * kHostWordBytes * w_.world};
  if (w_.world > 1 && w_.agree_on_tokens) add(kAgreeTokens, StreamKind::kHost, agreement);
  add(kGate, StreamKind::kCompute, gate_size(1));
  if (w_.gate_noise) add(kGateNoise, StreamKind::kCompute, moves(2 * score_bytes));
  const std::int64_t choice_bytes = w_.num_tokens * w_.top_k * (2 * kIndexBytes + gate_element_);
  const int routed = add(kRoute, StreamKind::kCompute, moves(2 * score_bytes + choice_bytes));
  int reduced = kNone;
  if (w_.gate_loss) {
    const int sums = add(kGateLossSums, StreamKind::kCompute, moves(score_bytes));
    if (w_.world > 1 && w_.global_loss_scope) {
      const std::int64_t bytes = gate_loss_num_sums(w_.num_experts) * size_bytes(DType::kF64);
      reduced = add(kReduceGateLoss, StreamKind::kCommunication,
                    {.peers = w_.world, .bytes_per_peer = bytes, .bytes = bytes}, sums);
    }
    add(kGateLossValue, StreamKind::kCompute, {}, reduced);
  }
  if (w_.dropless) {
    add(kAgreeCapacity, StreamKind::kHost, w_.world > 1 ? agreement : OperationSize{}, routed);
  }
}

int Builder::gather_weights() {
  return shape_.gathers ? add(OperationKind::kGatherWeights, StreamKind::kCommunication, weights_size(false))
                        : kNone;
}

int Builder::exchange(Direction direction, std::int64_t chunk, int wait) {
  using enum OperationKind;
  if (s_.plan.all_to_all == AllToAllAlgorithm::kLinear) {
    return add_chunk(kAllToAll, StreamKind::kCommunication, direction, chunk, wait);
  }
  int last = wait;
  for (const OperationKind step : {kNodeCopy, kNodeAllToAll, kRailCopy, kRailAllToAll}) {
    last = add_chunk(step, StreamKind::kCommunication, direction, chunk, last);
  }
  return last;
}

int Builder::dispatch_all(int encoded) {
  for (std::int64_t chunk = 0; chunk < chunks() && shape_.exchanges; ++chunk) {
    dispatch_end_[static_cast<std::size_t>(chunk)] = exchange(Direction::kDispatch, chunk, encoded);
  }
  return encoded;
}

int Builder::sum_copies(int combined_first) {
  if (!shape_.exchanges || shape_.copies == 1) return combined_first;
  int last = kNone;
  for (std::int64_t chunk = 0; chunk < chunks(); ++chunk) {
    last = add_chunk(OperationKind::kSumCopies, StreamKind::kCompute, Direction::kCombine, chunk,
                     combined(chunk));
  }
  return last;
}

void Builder::expert_forward() {
  using enum OperationKind;
  const int gathered = gather_weights();
  const int encoded = add(kEncode, StreamKind::kCompute, moves(token_bytes() + buffer_bytes()));
  dispatch_all(encoded);
  for (std::int64_t chunk = 0; chunk < chunks(); ++chunk) {
    const auto c = static_cast<std::size_t>(chunk);
    if (shape_.exchanges) {
      add_chunk(kRowsToExperts, StreamKind::kCompute, Direction::kDispatch, chunk, dispatch_end_[c]);
    }
    int done =
        add_chunk(kExpertFfn, StreamKind::kCompute, Direction::kNone, chunk, chunk == 0 ? gathered : kNone);
    if (!shape_.exchanges) continue;
    done = add_chunk(kRowsFromExperts, StreamKind::kCompute, Direction::kCombine, chunk, kNone);
    combine_end_[c] = exchange(Direction::kCombine, chunk, done);
  }
  const int arrived = shape_.exchanges ? combined(chunks() - 1) : kNone;
  const int summed = sum_copies(arrived);
  add(kDecode, StreamKind::kCompute, moves(token_bytes() * (1 + w_.top_k)), summed);
}

void Builder::expert_backward() {
  using enum OperationKind;
  const int gathered = w_.regather_weights ? gather_weights() : kNone;
  const int decoded = add(kDecodeBackward, StreamKind::kCompute,
                          moves(token_bytes() * (1 + (w_.is_postscore ? w_.top_k : 0)) + buffer_bytes()));
  dispatch_all(decoded);
  // With postscore the gate's gradient is complete here, and its work hides the first exchange.
  const double gate_products = 2;  // weights and tokens
  int gate = w_.is_postscore ? add(kGateBackward, StreamKind::kCompute, gate_size(gate_products)) : kNone;
  const auto add_fc2 = [&] {
    add(kExpertFfnBackwardFc2, StreamKind::kCompute, ffn_size(shape_.rows(), 1, 1));
  };
  if (shape_.in_place_gradients) add_fc2();
  for (std::int64_t chunk = 0; chunk < chunks(); ++chunk) {
    const auto c = static_cast<std::size_t>(chunk);
    if (shape_.exchanges) {
      add_chunk(kRowsToExperts, StreamKind::kCompute, Direction::kDispatch, chunk, dispatch_end_[c]);
    }
    add_chunk(kExpertFfnBackwardData, StreamKind::kCompute, Direction::kNone, chunk,
              chunk == 0 ? gathered : kNone);
    if (!shape_.exchanges) continue;
    const int done = add_chunk(kRowsFromExperts, StreamKind::kCompute, Direction::kCombine, chunk, kNone);
    combine_end_[c] = exchange(Direction::kCombine, chunk, done);
  }
  // After the last chunk: over all rows at once, beside the exchanges that are still under way.
  if (!shape_.in_place_gradients) add_fc2();
  const int weights =
      add(kExpertFfnBackwardFc1, StreamKind::kCompute, ffn_size(shape_.rows(), first_layer_matrices(), 1));
  const int arrived = shape_.exchanges ? combined(chunks() - 1) : kNone;
  const int summed = sum_copies(arrived);
  add(kEncodeBackward, StreamKind::kCompute, moves(token_bytes() * (1 + w_.top_k)), summed);
  if (!w_.is_postscore) gate = add(kGateBackward, StreamKind::kCompute, gate_size(gate_products));
  if (shape_.gathers) add(kScatterGradients, StreamKind::kCommunication, weights_size(true), weights);
  if (w_.world > 1) {
    const std::int64_t elements = w_.gate == GateKind::kLinear
                                      ? w_.num_experts * w_.model_dim
                                      : w_.projection_dim * (w_.model_dim + 1 + w_.num_experts) + 1;
    const std::int64_t bytes = elements * gate_element_;
    add(kReduceGateGradients, StreamKind::kCommunication,
        {.peers = w_.world, .bytes_per_peer = bytes, .bytes = bytes}, gate);
  }
}

}  // namespace

PlanShape plan_shape(const Workload& w, const Plan& plan) {
  PlanShape shape;
  const std::int64_t r = plan.parallel_degree;
  if (r == 0) {
    shape = {.copies = 0,
             .parts = 1,
             .weight_group = w.world,
             .columns = w.hidden_dim,
             .experts = w.num_experts,
             .sources = 1,
             .part_slots = w.padded_capacity()};
  } else {
    const std::int64_t group = w.shards() / r;
    shape = {.copies = r,
             .parts = group,
             .weight_group = group,
             .columns = w.hidden_dim / r,
             .experts = w.local_experts(),
             .sources = w.world,
             .part_slots = w.padded_capacity() / group};
  }
  shape.exchanges = r > 0 && w.world > 1;
  shape.gathers = shape.weight_group > 1;
  shape.in_place_gradients = !shape.exchanges && plan.pipeline_degree == 1;
  return shape;
}

void build_schedule_into(Schedule& schedule, Part part, const Workload& workload, const Plan& plan,
                         const Cluster& cluster) {
  validate(workload);
  if (!is_legal(plan, workload, cluster)) {
    fail("plan '{}' cannot run: {}", to_string(plan), *why_illegal(plan, workload, cluster));
  }
  schedule.part = part;
  schedule.workload = workload;
  schedule.plan = plan;
  schedule.operations.clear();
  Builder builder(schedule, cluster);
  if (part == Part::kRoute) {
    require(workload.pass == Pass::kForward,
            "the route part has a forward pass only; its backward is in the expert part");
    builder.route();
  } else if (workload.pass == Pass::kForward) {
    builder.expert_forward();
  } else {
    builder.expert_backward();
  }
}

Schedule build_schedule(Part part, const Workload& workload, const Plan& plan, const Cluster& cluster) {
  Schedule schedule;
  build_schedule_into(schedule, part, workload, plan, cluster);
  return schedule;
}

}  // namespace flex
