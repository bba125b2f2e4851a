#include <cuda_runtime_api.h>

#include <array>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "base/log.h"
#include "base/require.h"
#include "kernels/cuda_blas_check.h"
#include "kernels/cuda_check.h"
#include "kernels/gemm_algorithms.h"
#include "kernels/gemm_group_cuda.h"
#include "kernels/gemm_product_cuda.h"
#include "kernels/gemm_search_cuda.h"

namespace flex {
namespace {

// Shapes whose descriptors are kept. Row counts of dropless passes change all the time: when the table is
// full it is emptied, and what is still in use is prepared again from the kept algorithms.
constexpr std::size_t kMaxPrepared = 4096;
// Output tiles of the library's large kernels, to guess how much of the device a product fills.
constexpr std::int64_t kTileRows = 128;
constexpr std::int64_t kTileColumns = 256;

struct ShapeKey {
  GemmShape shape;
  GemmAlignments alignments;
  friend bool operator==(const ShapeKey&, const ShapeKey&) = default;
};
struct HashShape {
  std::size_t operator()(const ShapeKey& key) const { return hash_of(key.shape, key.alignments); }
};
struct HashFamily {
  std::size_t operator()(const GemmFamily& family) const { return hash_of(family); }
};

struct Prepared {
  GemmProduct product;
  std::optional<cublasLtMatmulAlgo_t> algorithm;  // nothing: the library cannot compute this shape
};

struct Kept {
  cublasLtMatmulAlgo_t algorithm{};
  std::optional<double> measured_us;
};

constexpr std::string_view kHexDigits = "0123456789abcdef";

std::string to_hex(const cublasLtMatmulAlgo_t& algorithm) {
  std::array<unsigned char, sizeof(algorithm.data)> bytes{};
  std::memcpy(bytes.data(), algorithm.data, bytes.size());
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kHexDigits[byte >> 4U];
    text += kHexDigits[byte & 15U];
  }
  return text;
}

std::optional<cublasLtMatmulAlgo_t> from_hex(std::string_view text) {
  cublasLtMatmulAlgo_t algorithm{};
  std::array<unsigned char, sizeof(algorithm.data)> bytes{};
  if (text.size() != 2 * bytes.size()) return std::nullopt;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t high = kHexDigits.find(text[2 * i]);
    const std::size_t low = kHexDigits.find(text[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    bytes[i] = static_cast<unsigned char>(high << 4U | low);
  }
  std::memcpy(algorithm.data, bytes.data(), bytes.size());
  return algorithm;
}

bool is_empty(const GemmShape& shape) { return shape.m == 0 || shape.n == 0 || shape.batch == 0; }

// The most that the device's memory can move, in 1e9 bytes/s; 0 where the driver does not tell.
double peak_memory_GBps(Device device) {
  int clock_kHz = 0;
  int bus_bits = 0;
  FLEX_CUDA_CHECK(cudaDeviceGetAttribute(&clock_kHz, cudaDevAttrMemoryClockRate, device.index));
  FLEX_CUDA_CHECK(cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, device.index));
  constexpr double kTransfersPerClock = 2.0;  // double data rate
  return kTransfersPerClock * 1e-6 * static_cast<double>(clock_kHz) * static_cast<double>(bus_bits) / 8.0;
}

// A sum over no terms.
void write_zeros(const GemmCall& call, cudaStream_t stream) {
  const GemmShape shape = with_leading_dimensions(call.shape);
  require(shape.epilogue == GemmEpilogue::kNone, "{}: a product with k = 0 has no epilogue",
          to_string(shape));
  if (shape.accumulate) return;
  const auto element = static_cast<std::size_t>(size_bytes(shape.dtype));
  for (std::int64_t member = 0; member < shape.batch; ++member) {
    auto* begin = static_cast<char*>(call.d) + static_cast<std::size_t>(member * shape.stride_d) * element;
    FLEX_CUDA_CHECK(cudaMemset2DAsync(begin, static_cast<std::size_t>(shape.ldd) * element, 0,
                                      static_cast<std::size_t>(shape.n) * element,
                                      static_cast<std::size_t>(shape.m), stream));
  }
}

}  // namespace

struct GemmAlgorithms::Impl {
  Impl(Device device_in, const GemmOptions& options_in)
      : device(device_in), options(options_in), group(device_in) {
    require_usable(device);
    require<DeviceError>(device.is_cuda(), "GemmAlgorithms: {} is no CUDA device", to_string(device));
    FLEX_CUDA_CHECK(cudaSetDevice(device.index));
    cudaDeviceProp properties{};
    FLEX_CUDA_CHECK(cudaGetDeviceProperties(&properties, device.index));
    device_name = static_cast<const char*>(properties.name);
    num_multiprocessors = properties.multiProcessorCount;
    memory_GBps = peak_memory_GBps(device);
    scratch = Tensor(DType::kU8, {options.workspace_bytes}, device);
    FLEX_CUBLAS_CHECK(cublasLtCreate(&handle), to_string(device));
  }
  ~Impl() {
    const cublasStatus_t status = cublasLtDestroy(handle);
    if (status != CUBLAS_STATUS_SUCCESS)
      log_error("GemmAlgorithms: cuBLASLt was not released: {}", cublasLtGetStatusName(status));
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  GemmWorkspace workspace() { return {scratch.view().data, scratch.bytes()}; }

  Prepared& prepare(const GemmCall& call) {
    const ShapeKey key = {with_leading_dimensions(call.shape), alignments_of(call)};
    if (const auto found = prepared.find(key); found != prepared.end()) return found->second;
    if (prepared.size() >= kMaxPrepared) prepared.clear();
    ++num_preparations;
    GemmProduct product(key.shape, key.alignments, options.allow_tf32);
    const GemmFamily family = family_of(key.shape, key.alignments, options.allow_tf32);
    if (tune_unseen && !is_measured(family)) search(family, product);
    const auto algorithm = choose(family, product);
    return prepared.emplace(key, Prepared{.product = product, .algorithm = algorithm}).first->second;
  }

  std::optional<cublasLtMatmulAlgo_t> choose(const GemmFamily& family, const GemmProduct& product) {
    const auto found = kept.find(family);
    if (found != kept.end() && product.fits(handle, found->second.algorithm, options.workspace_bytes))
      return found->second.algorithm;
    const auto suggestions = product.suggestions(handle, options.workspace_bytes, 1);
    if (suggestions.empty()) return std::nullopt;
    if (found == kept.end()) kept[family] = {.algorithm = suggestions.front(), .measured_us = std::nullopt};
    return suggestions.front();
  }

  [[nodiscard]] bool is_measured(const GemmFamily& family) const {
    const auto found = kept.find(family);
    return found != kept.end() && found->second.measured_us.has_value();
  }

  void search(const GemmFamily& family, const GemmProduct& product) {
    const auto result =
        search_gemm_blocking(device, handle, product, options.workspace_bytes, options.num_candidates);
    if (!result) return;
    kept[family] = {.algorithm = result->algorithm, .measured_us = result->median_us};
    log_debug("{}: {:.1f} us, first suggestion {:.1f} us, {} timed", to_string(product.shape()),
              result->median_us, result->first_median_us, result->num_timed);
  }

  void launch(const Prepared& entry, const GemmCall& call, cudaStream_t stream) {
    FLEX_CUBLAS_CHECK(entry.product.launch(handle, *entry.algorithm, call, workspace(), stream),
                      to_string(call.shape));
  }

  bool run_if_supported(const GemmCall& call, Stream& stream) {
    if (is_empty(call.shape)) return true;
    FLEX_CUDA_CHECK(cudaSetDevice(device.index));  // the calling thread may have another one
    auto* native = static_cast<cudaStream_t>(stream.native());
    if (call.shape.k == 0) {
      if (call.shape.epilogue != GemmEpilogue::kNone) return false;
      write_zeros(call, native);
      return true;
    }
    const Prepared& entry = prepare(call);
    if (!entry.algorithm) return false;
    launch(entry, call, native);
    return true;
  }

  Device device;
  GemmOptions options;
  std::string device_name;
  int num_multiprocessors = 0;
  double memory_GBps = 0.0;
  Tensor scratch;
  cublasLtHandle_t handle = nullptr;
  GemmGroup group;
  bool tune_unseen = false;
  std::int64_t num_preparations = 0;
  std::unordered_map<ShapeKey, Prepared, HashShape> prepared;
  std::unordered_map<GemmFamily, Kept, HashFamily> kept;
  std::vector<GemmCall> grouped_calls;  // of the group under way
};

GemmAlgorithms::GemmAlgorithms(Device device, const GemmOptions& options)
    : impl_(std::make_unique<Impl>(device, options)) {}
GemmAlgorithms::~GemmAlgorithms() = default;

void GemmAlgorithms::run(const GemmCall& call, Stream& stream) {
  require<DeviceError>(impl_->run_if_supported(call, stream), "cuBLASLt {} has no algorithm on {} for {}",
                       cublasLtGetVersion(), to_string(impl_->device), to_string(call.shape));
}

bool GemmAlgorithms::run_if_supported(const GemmCall& call, Stream& stream) {
  return impl_->run_if_supported(call, stream);
}

bool GemmAlgorithms::supports(const GemmCall& call) {
  if (is_empty(call.shape)) return true;
  if (call.shape.k == 0) return call.shape.epilogue == GemmEpilogue::kNone;
  FLEX_CUDA_CHECK(cudaSetDevice(impl_->device.index));
  return impl_->prepare(call).algorithm.has_value();
}

std::optional<bool> GemmAlgorithms::prefers_fused(const GemmCall& fused, const GemmCall& plain,
                                                  std::int64_t pass_bytes) {
  if (is_empty(fused.shape) || fused.shape.k == 0 || !supports(fused)) return false;
  if (!supports(plain)) return true;
  const auto fused_us = measured_us(fused);
  const auto plain_us = measured_us(plain);
  if (!fused_us || !plain_us) return std::nullopt;
  const double pass_us =
      impl_->memory_GBps > 0.0 ? static_cast<double>(pass_bytes) / impl_->memory_GBps * 1e-3 : 0.0;
  return *fused_us <= *plain_us + pass_us;
}

bool GemmAlgorithms::runs_one_by_one(std::span<const GemmCall> calls) const {
  if (impl_->options.group_method != GemmGroupMethod::kAuto)
    return impl_->options.group_method == GemmGroupMethod::kOneByOne;
  std::int64_t tiles = 0;
  std::int64_t products = 0;
  for (const GemmCall& call : calls) {
    if (is_empty(call.shape)) continue;
    ++products;
    tiles += (call.shape.m + kTileRows - 1) / kTileRows * ((call.shape.n + kTileColumns - 1) / kTileColumns);
  }
  return products <= 1 || tiles >= products * impl_->num_multiprocessors;
}

void GemmAlgorithms::run_group(std::span<const GemmCall> calls, Stream& stream) {
  if (runs_one_by_one(calls)) {
    for (const GemmCall& call : calls) run(call, stream);
    return;
  }
  FLEX_CUDA_CHECK(cudaSetDevice(impl_->device.index));
  auto* native = static_cast<cudaStream_t>(stream.native());
  std::vector<GemmCall>& grouped = impl_->grouped_calls;
  grouped.clear();
  for (const GemmCall& call : calls) {
    if (is_empty(call.shape)) continue;
    require(call.shape.batch == 1 && call.shape.epilogue == GemmEpilogue::kNone &&
                call.shape.dtype == calls.front().shape.dtype,
            "run_group: {} has a batch, an epilogue or another type than its group", to_string(call.shape));
    if (call.shape.k == 0) {
      write_zeros(call, native);
    } else {
      grouped.push_back(call);
    }
  }
  if (grouped.empty()) return;
  if (impl_->group.run(grouped, impl_->options.allow_tf32, impl_->workspace(), native)) return;
  for (const GemmCall& call : grouped) run(call, stream);
}

void GemmAlgorithms::tune_blocking(const GemmCall& call) {
  if (is_empty(call.shape) || call.shape.k == 0) return;
  FLEX_CUDA_CHECK(cudaSetDevice(impl_->device.index));
  const GemmShape shape = with_leading_dimensions(call.shape);
  const GemmAlignments alignments = alignments_of(call);
  impl_->search(family_of(shape, alignments, impl_->options.allow_tf32),
                GemmProduct(shape, alignments, impl_->options.allow_tf32));
  impl_->prepared.clear();  // other shapes of the family shall use what was found
}

bool GemmAlgorithms::tunes_unseen() const { return impl_->tune_unseen; }
void GemmAlgorithms::set_tune_unseen(bool tune_unseen) {
  // What was prepared without a search is to be looked at again.
  if (tune_unseen && !impl_->tune_unseen) impl_->prepared.clear();
  impl_->tune_unseen = tune_unseen;
}

std::optional<double> GemmAlgorithms::measured_us(const GemmCall& call) const {
  const GemmFamily family =
      family_of(with_leading_dimensions(call.shape), alignments_of(call), impl_->options.allow_tf32);
  const auto found = impl_->kept.find(family);
  return found == impl_->kept.end() ? std::nullopt : found->second.measured_us;
}

std::vector<GemmAlgorithmRow> GemmAlgorithms::export_rows() const {
  std::vector<GemmAlgorithmRow> rows;
  for (const auto& [family, entry] : impl_->kept) {
    if (!entry.measured_us) continue;
    rows.push_back({.device = impl_->device_name,
                    .library_version = static_cast<std::int64_t>(cublasLtGetVersion()),
                    .family = family,
                    .algorithm = to_hex(entry.algorithm),
                    .measured_us = *entry.measured_us});
  }
  return rows;
}

std::int64_t GemmAlgorithms::import_rows(std::span<const GemmAlgorithmRow> rows) {
  std::int64_t taken = 0;
  for (const GemmAlgorithmRow& row : rows) {
    if (row.device != impl_->device_name) continue;
    if (row.library_version != static_cast<std::int64_t>(cublasLtGetVersion())) continue;
    const auto algorithm = from_hex(row.algorithm);
    if (!algorithm || !(row.measured_us > 0.0)) continue;
    impl_->kept[row.family] = {.algorithm = *algorithm, .measured_us = row.measured_us};
    ++taken;
  }
  if (taken > 0) impl_->prepared.clear();
  return taken;
}

Device GemmAlgorithms::device() const { return impl_->device; }
const GemmOptions& GemmAlgorithms::options() const { return impl_->options; }
TensorView GemmAlgorithms::workspace() const { return impl_->scratch.view(); }
std::int64_t GemmAlgorithms::num_preparations() const { return impl_->num_preparations; }

}  // namespace flex
