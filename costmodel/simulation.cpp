#include "costmodel/simulation.h"

namespace flex {

OperationGroup group_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::kAgreeTokens:
    case OperationKind::kAgreeCapacity:
    case OperationKind::kReduceGateLoss:
    case OperationKind::kReduceGateGradients:
    case OperationKind::kReduceSharedGradients:
    case OperationKind::kAllToAll:
      return OperationGroup::kWorld;
    case OperationKind::kNodeAllToAll:
      return OperationGroup::kNode;
    case OperationKind::kRailAllToAll:
      return OperationGroup::kRail;
    case OperationKind::kGatherWeights:
    case OperationKind::kScatterGradients:
      return OperationGroup::kWeights;
    default:
      return OperationGroup::kNone;
  }
}

}  // namespace flex
