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

bool is_communication(OperationKind kind) {
  // Strided copies have a group of one, but run on the communication stream.
  return group_of(kind) != OperationGroup::kNone || kind == OperationKind::kNodeCopy ||
         kind == OperationKind::kRailCopy;
}

}  // namespace flex
