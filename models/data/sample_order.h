#pragma once

#include <cstdint>

namespace flex {

/// A permutation of 0 .. count - 1 for each epoch, found place by place without a table, so that any place
/// of any epoch costs the same.
///
/// The places are numbers of two digits to the base a = ceil(sqrt(count)); in turns each digit has a Philox
/// word added to it that is a function of the other digit. What falls outside of the count goes through
/// again.
/// @source Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002 (generalized Feistel, cycle
/// walking).
class SampleOrder {
 public:
  /// @throws InputError unless `count` is from 1 to 2^62.
  SampleOrder(std::int64_t count, std::uint64_t seed);

  struct Place {
    std::int64_t epoch;
    std::int64_t index;  ///< in [0, count)
  };
  /// Which image stands at `position`, zero or more, of the endless sequence of epochs.
  [[nodiscard]] Place at(std::int64_t position) const;

 private:
  [[nodiscard]] std::uint64_t permuted(std::uint64_t epoch, std::uint64_t place) const;

  std::int64_t count_;
  std::uint64_t seed_;
  std::uint64_t low_base_;
  std::uint64_t high_base_;
};

}  // namespace flex
