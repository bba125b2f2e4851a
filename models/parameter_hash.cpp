#include "models/parameter_hash.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>

#include "base/philox.h"
#include "base/require.h"

namespace flex {
namespace {

bool is_replicated(const ModelParameter& parameter) { return parameter.spec.home != ParameterHome::kExperts; }

// Word by word; what is left at the end is filled with zeros, and the length tells it from zeros.
std::uint64_t hash_of(std::span<const char> bytes) {
  std::uint64_t hash = splitmix64(bytes.size());
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(hash)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min(sizeof(word), bytes.size() - at));
    hash = splitmix64(hash ^ word);
  }
  return hash;
}

// One for each replicated parameter, in the order of the list.
std::vector<std::int64_t> hashes_blocking(const ModelParameters& parameters) {
  std::vector<std::int64_t> hashes;
  Tensor host;
  for (const ModelParameter& parameter : parameters.all()) {
    if (!is_replicated(parameter)) continue;
    ConstTensorView value = parameter.value;
    if (!value.device.is_cpu()) {
      host = Tensor(value.dtype, value.shape);
      copy_blocking(host, value);
      value = host;
    }
    const std::span bytes(value.as<char>(), static_cast<std::size_t>(value.bytes()));
    hashes.push_back(std::bit_cast<std::int64_t>(hash_of(bytes)));
  }
  return hashes;
}

// The first of `all` (one of each rank) that is not what most have, what most have being the lowest rank's
// where as many have another.
std::size_t odd_one_out(std::span<const std::int64_t> all) {
  const auto most = std::ranges::max_element(
      all, {}, [&](const std::int64_t& one) { return std::ranges::count(all, one); });
  return static_cast<std::size_t>(std::ranges::find_if(all, [&](std::int64_t one) { return one != *most; }) -
                                  all.begin());
}

[[noreturn]] void fail_with_drift(const ModelParameters& parameters, const std::vector<std::int64_t>& mine,
                                  RankContext& context) {
  const auto ranks = static_cast<std::size_t>(context.size());
  std::vector<std::int64_t> all(ranks * mine.size());
  context.control().gather_host_blocking(mine, all);
  std::size_t place = 0;
  std::vector<std::int64_t> by_rank(ranks);
  for (const ModelParameter& parameter : parameters.all()) {
    if (!is_replicated(parameter)) continue;
    for (std::size_t rank = 0; rank < ranks; ++rank) by_rank[rank] = all[rank * mine.size() + place];
    ++place;
    const std::size_t rank = odd_one_out(by_rank);
    if (rank < ranks) {
      fail<Error>("the ranks drifted apart: on rank {} the parameter '{}' is not what it is on other ranks",
                  rank, parameter.spec.name);
    }
  }
  fail<Error>("the ranks drifted apart, and differ in no single parameter");  // hashes of hashes differ
}

}  // namespace

std::uint64_t parameter_hash_blocking(const ModelParameters& parameters, RankContext& context) {
  const std::vector<std::int64_t> hashes = hashes_blocking(parameters);
  const std::uint64_t total =
      hash_of({reinterpret_cast<const char*>(hashes.data()), hashes.size() * sizeof(std::int64_t)});
  std::vector<std::int64_t> all(static_cast<std::size_t>(context.size()));
  const std::array<std::int64_t, 1> mine{std::bit_cast<std::int64_t>(total)};
  context.control().gather_host_blocking(mine, all);
  if (std::ranges::any_of(all, [&](std::int64_t one) { return one != all.front(); }))
    fail_with_drift(parameters, hashes, context);
  return total;
}

}  // namespace flex
