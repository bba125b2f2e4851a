#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "kernels/event.h"
#include "kernels/tensor.h"
#include "runtime/nccl_world.h"

namespace flex {

/// A process's membership of one group whose tensors NCCL moves. The host side, CPU buffers and agreement, is
/// the control channel's.
///
/// Exchanges are grouped sends and receives. Reductions are exchanges too, of as many bytes as NCCL's own
/// take, and a kernel that sums in rank order: so every rank and every implementation gets equal bits, fp16
/// and bf16 are summed in fp32, and a maximum passes a NaN on, none of which NCCL's reductions promise.
class NcclMember final : public ControlMember {
 public:
  /// @param comm of exactly the ranks of `group`; null for a group of one. @param checks_calls has the hub
  /// compare every call before it is made.
  NcclMember(std::shared_ptr<NcclWorld> world, std::shared_ptr<const GroupOfRanks> group,
             std::shared_ptr<NcclComm> comm, bool checks_calls);
  ~NcclMember() override;

  [[nodiscard]] std::string description() const override;
  [[nodiscard]] std::string transport() const override { return nccl_version_text(); }
  [[nodiscard]] bool takes_cuda() const override { return true; }
  void issue(const CollectiveCall& call, Stream& stream) override;
  [[nodiscard]] std::shared_ptr<CollectiveEngine> split(int color, int key) override;

 private:
  void queue(const CollectiveCall& call, Stream& stream);
  void exchange_pieces(const CollectiveCall& call, Stream& stream);
  void all_gather(const CollectiveCall& call, Stream& stream);
  void broadcast(const CollectiveCall& call, Stream& stream);
  void reduce_scatter(const CollectiveCall& call, Stream& stream);
  void all_reduce(const CollectiveCall& call, Stream& stream);
  /// Peers' pieces at scratch_ + p * stride, this rank's at `own`, reduced to `to`.
  void reduce(const CollectiveCall& call, std::int64_t bytes, std::int64_t stride, const void* own, void* to,
              Stream& stream);
  void group_calls(const CollectiveCall& call, const std::function<void(ncclComm_t)>& calls);
  /// Room for at least `bytes`. Grows by waiting for what still uses it.
  [[nodiscard]] char* scratch(std::int64_t bytes);
  void await_device();

  std::shared_ptr<NcclWorld> nccl_world_;
  std::shared_ptr<NcclComm> comm_;
  bool checks_calls_;
  std::mutex mutex_;  ///< one call at a time: their order is that of the group
  Event last_;        ///< the end of the last call on a device
  void* last_stream_ = nullptr;
  bool has_last_ = false;
  Tensor scratch_;
  std::int64_t scratch_bytes_ = 0;
};

}  // namespace flex
