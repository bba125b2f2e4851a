#pragma once

#include "tests/runtime/contract_collectives.h"
#include "tests/runtime/contract_failures.h"
#include "tests/runtime/contract_groups.h"

namespace flex::testing {

REGISTER_TYPED_TEST_SUITE_P(CommunicatorContract, AllToAllDeliversEveryPiece,
                            AllToAllSendsSharedPiecesToSeveralPeers, RaggedAllToAllDeliversUnequalPieces,
                            AllGatherOrdersByRankAlsoInPlace, ReduceScatterSumsInRankOrder,
                            AllReduceSumsInRankOrder, AllReduceTakesTheLargestAndPassesNanOn,
                            BroadcastFromEachRoot, GatherHostOrdersByRank, WorldOfOneRankCopies,
                            ArgumentsThatCannotBeAreRefusedAtTheCall, SplitOrdersByKeyAndNests,
                            GroupsOutliveTheirParents, CountersAreExactToTheByte,
                            CallsMatchByOrderOfTheCallsWhateverRunsFirst, RandomCallsWithDelaysComeOutRight,
                            HierarchicalAllToAllEqualsLinear, DifferentCallsAreNamedOnEveryRank,
                            DifferentSizesAreNamedOnEveryRank, PairsOfARaggedExchangeMustAgree,
                            DeadlineNamesTheSleepingRank, DeadlineNamesTheSleepingRankAcrossGroups,
                            RanksThatWaitForEachOtherAreNamed, AbortFromAForeignThreadEndsEveryWait,
                            CollectiveOfAFailedStreamEndsThePeersWaits);

}  // namespace flex::testing
