#include <bit>
#include <functional>

#include "runtime/moe_layer_impl.h"

/// Which passes may be captured as graphs, and what a graph depends on.
namespace flex {

bool MoeLayer::Impl::is_static(const Stream& stream) const {
  if (!graphs_.enabled() || context_.size() > 1 || workload_.dropless || workload_.gate_noise) return false;
  if (probe_.filter || context_.executor().observed()) return false;
  return context_.gemm() != nullptr && !context_.gemm()->tunes_unseen() && StreamGraph::can_capture(stream);
}

PassKey MoeLayer::Impl::pass_key() const {
  const auto address = [](const void* data) { return std::bit_cast<std::uintptr_t>(data); };
  const bool backward = pass_ == Pass::kBackward;
  // The first buffer of the pass stands for all: the others follow it in the arena by the sizes, which the
  // rest of the key decides.
  return {static_cast<std::uint64_t>(pass_),
          static_cast<std::uint64_t>(workload_.num_tokens),
          static_cast<std::uint64_t>(call_.top_k),
          std::bit_cast<std::uint64_t>(call_.capacity_factor),
          (call_.training ? 1U : 0U) + (call_.keep_counts ? 2U : 0U),
          stable_hash(result_.plans.forward),
          stable_hash(result_.plans.backward),
          address(route_.clean.data),
          address(x_.data),
          backward ? address(dy_.data) : address(y_.data),
          backward ? address(dx_.data) : 0U,
          backward ? std::bit_cast<std::uint64_t>(loss_gradient_) : 0U};
}

void MoeLayer::Impl::run_schedules(std::span<Schedule* const> schedules, Stream& stream) {
  const auto queue = [this, schedules, &stream] {
    for (Schedule* schedule : schedules) run_schedule(*schedule, stream);
  };
  graphs_.run(pass_key(), stream, std::cref(queue));  // a reference: a copy of the lambda would allocate
}

}  // namespace flex
