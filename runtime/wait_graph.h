#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

namespace flex {

/// One rank's wait inside one collective. A rank with several streams may have several.
struct PeerWait {
  int rank = 0;                 ///< world rank of who waits
  std::string place;            ///< `all_to_all (dispatch) in group {0,1,2,3}`
  std::vector<int> missing;     ///< world ranks that have not arrived there
  std::vector<int> not_called;  ///< those of them that are known not even to have called it
};

/// Why `waits[own]` ran into its deadline, in one line. Follows "who am I waiting for" from there to the
/// ranks that wait for nobody: they are what everyone waits for, however many groups lie between. When every
/// rank on the way waits for another one, the ranks that did not make a call that is waited for are named;
/// failing that, the whole circle is.
[[nodiscard]] std::string explain_wait(std::span<const PeerWait> waits, std::size_t own,
                                       std::chrono::milliseconds deadline);

}  // namespace flex
