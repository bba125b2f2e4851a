#pragma once

#include <exception>
#include <functional>

#include "runtime/communicator.h"

namespace flex {

/// Ends a part of work that each rank does by itself: returns if no rank failed, and throws on all if one
/// did. `error` is what this rank's work threw, null if nothing. A rank that failed throws its own error, the
/// others that of the first one that failed, of the same class (InputError, FileError, or else Error) and
/// with its rank in front. Collective. @throws CommError too.
void throw_if_any_failed_blocking(const std::exception_ptr& error, Communicator& communicator);

/// Runs `work`, which calls no collective, here as on every rank, and fails together. A CommError, after
/// which there is nobody to agree with, is thrown at once.
template <class Work>
void do_together_blocking(Communicator& communicator, const Work& work) {
  std::exception_ptr error;
  try {
    work();
  } catch (const CommError&) {
    throw;
  } catch (...) {
    error = std::current_exception();
  }
  throw_if_any_failed_blocking(error, communicator);
}

/// The same for work that may take longer than the communicator's deadline, as that of a disk may: `work`
/// runs in a thread of its own while the ranks tell each other that they are still at it.
void do_patiently_together_blocking(Communicator& communicator, const std::function<void()>& work);

}  // namespace flex
