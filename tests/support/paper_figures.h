#pragma once

#include <array>
#include <cstdint>

/// Figures that others published, on Azure NDv4: nodes of 8 A100, one 200 Gb/s NIC for each GPU.
/// @source Hwang et al., "Tutel: Adaptive Mixture-of-Experts at Scale", MLSys 2023, arXiv 2206.03382, unless
/// another source stands beside them
namespace flex::testing {

/// One layer, M = H = 4096, 2 experts a GPU, nothing overlapped; in milliseconds.
struct LayerShares {
  int gpus;
  double compute_ms, all_to_all_ms;
};
inline constexpr std::array<LayerShares, 3> kLayerShares = {
    {{16, 371.8, 189.1}, {64, 375.1, 323.8}, {256, 386.3, 491.3}}};

/// Seconds of a step of one layer over scale.
/// @source a figure in the repository of Tutel, February 2022, read off; the shape counts more than the level
struct ScalingPoint {
  int gpus;
  double deepspeed_s, linear_s, hierarchical_s;
};
inline constexpr std::array<ScalingPoint, 5> kScaling = {{{16, 0.169, 0.060, 0.060},
                                                          {32, 0.176, 0.077, 0.081},
                                                          {64, 0.201, 0.084, 0.100},
                                                          {128, 0.207, 0.100, 0.111},
                                                          {256, 0.221, 0.102, 0.112}}};
/// GPUs from which 2DH wins in that figure; at 256 they are close to a tie.
inline constexpr int kHierarchicalWinsFrom = 512;

/// How many times as fast one layer gets with each technique added (T = 16,384 a GPU, M = H = 2048, 2 experts
/// a GPU, k = 2, f = 1, r = 1), from Fairseq on. 0: not published.
struct Gains {
  int gpus;
  double kernels, hierarchical, flexible, adaptive, total;
};
inline constexpr std::array<Gains, 2> kGains = {
    {{16, 3.52, 0, 0, 1.43, 4.96}, {2048, 1.04, 4.25, 1.24, 1.04, 5.75}}};

/// Average gain in percent of adaptive pipelining over one choice for all of a grid: linear with d = 1, 2, 4,
/// 8, then 2DH.
struct PipeliningGains {
  int gpus;
  std::array<double, 8> percent;
  bool in_fit;  ///< parameters were fitted to it
};
inline constexpr std::array<PipeliningGains, 3> kPipelining = {{{16, {20, 2, 2, 11, 101, 98, 100, 106}, true},
                                                                {64, {13, 1, 5, 15, 28, 25, 27, 34}, false},
                                                                {128, {9, 2, 9, 29, 16, 16, 19, 26}, true}}};

/// GiB of training one layer, M = H = 4096, k = 2, 2 experts on one GPU.
struct LayerGiB {
  std::int64_t tokens;
  double fairseq_GiB, tutel_GiB;
};
inline constexpr std::array<LayerGiB, 4> kLayerGiB = {
    {{4096, 3.7, 2.9}, {8192, 6.2, 3.2}, {16384, 16.3, 4.0}, {32768, 57.9, 5.7}}};

}  // namespace flex::testing
