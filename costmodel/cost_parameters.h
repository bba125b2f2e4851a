#pragma once

#include <array>
#include <filesystem>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/cluster_description.h"
#include "costmodel/operation_cost.h"

namespace flex {

/// What programs reach of a device. Efficiencies are fractions of the datasheet's figures; above 1 where that
/// promises less than there is (a processor beyond its base clock, data in caches).
struct ComputeParameters {
  double matrix_efficiency = 0.5;        ///< of the peak of matrix products with many rows
  double half_efficiency_rows = 64;      ///< rows at which a product has half of that
  double memory_efficiency = 0.8;        ///< of memory bandwidth, reading and writing whole rows
  double strided_copy_efficiency = 0.4;  ///< of memory bandwidth, in 2DH's copies
  double launch_us = 5;                  ///< of each kernel, or task of a CPU's stream
  bool tf32_experts = false;             ///< fp32 products of the experts in TF32, where the device has it
  bool tf32_gate = false;                ///< those of the gate

  friend bool operator==(const ComputeParameters&, const ComputeParameters&) = default;
};

/// What a collective costs on one class of links.
struct LinkParameters {
  double bandwidth_efficiency = 0.8;  ///< of the link's bandwidth
  double message_us = 2;              ///< of each message of a rank, its latency and its software
  double collective_us = 20;          ///< of each phase, whatever its size
  /// Peers on this class in one phase at which contention doubles the time of bytes; infinite: never.
  double contention_peers = std::numeric_limits<double>::infinity();
  double contention_exponent = 1;  ///< bytes take 1 + (peers / contention_peers)^exponent times as long

  friend bool operator==(const LinkParameters&, const LinkParameters&) = default;
};

/// What measurements of one kind of operation say beside the parameters that all kinds share.
struct KindParameters {
  double fixed_us = 0;     ///< in the place of its launches, or of its phase's collective_us
  double time_factor = 1;  ///< on the part that grows with its size

  friend bool operator==(const KindParameters&, const KindParameters&) = default;
};

/// All that predictions need beside the facts of a cluster: what calibration finds. A plain value.
struct CostParameters {
  /// Band of a kind of operation that nothing was compared with.
  static constexpr double kUnknownError = 0.5;

  ComputeParameters compute;
  LinkParameters intra_node;
  LinkParameters inter_node;
  double host_synchronize_us = 20;  ///< until the host has what a device computed
  double base_memory_GiB = 0;       ///< of a process beside its tensors
  OverlapSlowdown linear;           ///< while a plan with this algorithm communicates
  OverlapSlowdown hierarchical;
  std::array<std::optional<KindParameters>, kNumOperationKinds> kinds{};
  /// What the host needs to queue an operation, see OperationCost::issue_us. 0: it is always far ahead.
  std::array<double, kNumOperationKinds> issue_us{};
  std::array<double, kNumOperationKinds> relative_error = filled(kUnknownError);  ///< of durations
  /// By All-to-All algorithm, see OperationCosts::pass_error(). 0: never compared with whole passes, or not
  /// needed to explain them.
  std::array<double, kNumAllToAllAlgorithms> pass_relative_error{};

  [[nodiscard]] const std::optional<KindParameters>& of(OperationKind kind) const {
    return kinds[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] double error_of(OperationKind kind) const {
    return relative_error[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] double pass_error(AllToAllAlgorithm algorithm) const {
    return pass_relative_error[static_cast<std::size_t>(algorithm)];
  }
  [[nodiscard]] const OverlapSlowdown& overlap(AllToAllAlgorithm algorithm) const {
    return algorithm == AllToAllAlgorithm::kLinear ? linear : hierarchical;
  }
  friend bool operator==(const CostParameters&, const CostParameters&) = default;

 private:
  static constexpr std::array<double, kNumOperationKinds> filled(double value) {
    std::array<double, kNumOperationKinds> values{};
    values.fill(value);
    return values;
  }
};

/// Parameters as their JSON file gives them; docs/calibration-format.md has the format.
struct Calibration {
  std::string cluster;      ///< that they are of
  std::string description;  ///< one line
  bool fitted = false;      ///< false: chosen, compared with nothing
  std::string source;       ///< of the figures that have none of their own
  CostParameters parameters;
  std::vector<SourcedFigure> figures;  ///< in the order of the format
};

/// Reads a calibration. `where` begins messages.
/// @throws InputError that names `where`, the key and what would be right.
[[nodiscard]] Calibration parse_calibration(std::string_view text, const std::string& where);

/// The same from a file of at most 1 MiB. @throws InputError, FileError.
[[nodiscard]] Calibration read_calibration_file(const std::filesystem::path& path);

/// The built-in calibration of this cluster; without one, default_calibration().
[[nodiscard]] Calibration calibration_of(const Cluster& cluster);

/// Generic parameters for a device of this kind and these links, compared with nothing: a wide band.
[[nodiscard]] Calibration default_calibration(const Cluster& cluster);

/// Clusters with built-in calibrations, in alphabetical order.
[[nodiscard]] std::vector<std::string> builtin_calibrations();

/// Reads back with equal parameters. A figure's own source is kept while its value is.
[[nodiscard]] nlohmann::ordered_json to_json(const Calibration& calibration);

/// to_json(), beside its place and renamed. @throws FileError.
void write_calibration_file(const std::filesystem::path& path, const Calibration& calibration);

}  // namespace flex
