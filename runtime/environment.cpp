#include "runtime/environment.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "base/build_facts.h"
#include "runtime/gather_texts.h"
#include "runtime/processor_name.h"

#ifdef FLEX_HAS_CUDA
#include "kernels/cuda_check.h"
#endif

namespace flex {
namespace {

std::string text_of(const char* file) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

/// Tells this host from others: containers of one host count as one.
std::string host_identity() {
  std::string boot = text_of("/proc/sys/kernel/random/boot_id");
  if (!boot.empty()) return boot.substr(0, boot.find('\n'));
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

/// One rank's word, before all ranks have said theirs.
struct RankFacts {
  std::string device, driver, cuda, transport, build;
  std::string device_identity;  ///< equal on ranks that share a device
};
constexpr std::array kTexts = {&RankFacts::device,    &RankFacts::driver, &RankFacts::cuda,
                               &RankFacts::transport, &RankFacts::build,  &RankFacts::device_identity};

#ifdef FLEX_HAS_CUDA
cudaDeviceProp properties_of(Device device) {
  cudaDeviceProp properties{};
  FLEX_CUDA_CHECK(cudaGetDeviceProperties(&properties, device.index));
  return properties;
}
#endif

void add_cuda_facts([[maybe_unused]] RankFacts& facts, [[maybe_unused]] Device device) {
#ifdef FLEX_HAS_CUDA
  const cudaDeviceProp properties = properties_of(device);
  facts.device = static_cast<const char*>(properties.name);
  int version = 0;
  FLEX_CUDA_CHECK(cudaRuntimeGetVersion(&version));
  facts.cuda = fmt::format("{}.{}", version / 1000, version % 1000 / 10);
  facts.driver = driver_version_in(text_of("/proc/driver/nvidia/version"));
  for (const char byte : properties.uuid.bytes) {
    facts.device_identity += fmt::format(" {:02x}", static_cast<unsigned char>(byte));
  }
#endif
}

RankFacts facts_of(RankContext& context) {
  RankFacts facts{
      .transport = context.data().transport(), .build = build_name(), .device_identity = host_identity()};
  if (context.device().is_cuda()) {
    add_cuda_facts(facts, context.device());
  } else {
    facts.device = fmt::format("{} threads of {}", std::thread::hardware_concurrency(), processor_name());
  }
  return facts;
}

std::vector<RankFacts> facts_of_all_blocking(RankContext& context) {
  const RankFacts own = facts_of(context);
  std::string lines;
  for (const auto text : kTexts) lines += own.*text + '\n';
  std::vector<RankFacts> all;
  for (const std::string& line_text : gather_texts_blocking(lines, context.control())) {
    std::stringstream stream(line_text);
    RankFacts& facts = all.emplace_back();
    for (const auto text : kTexts) std::getline(stream, facts.*text);
  }
  return all;
}

/// The different texts in rank order, `A + B`.
std::string joined(const std::vector<RankFacts>& all, std::string RankFacts::*text) {
  std::vector<std::string> different;
  for (const RankFacts& facts : all) {
    if (std::ranges::find(different, facts.*text) == different.end()) different.push_back(facts.*text);
  }
  return fmt::format("{}", fmt::join(different, " + "));
}

std::int64_t most_ranks_on_a_device(const std::vector<RankFacts>& all) {
  std::int64_t most = 0;
  for (const RankFacts& facts : all) {
    most = std::max<std::int64_t>(
        most, std::ranges::count(all, facts.device_identity, &RankFacts::device_identity));
  }
  return most;
}

}  // namespace

Environment environment_of(RankContext& context, const Cluster& described) {
  const std::vector<RankFacts> all = facts_of_all_blocking(context);
  const Cluster& running = context.cluster();
  Environment environment{.device = joined(all, &RankFacts::device),
                          .driver = joined(all, &RankFacts::driver),
                          .cuda = joined(all, &RankFacts::cuda),
                          .nccl = joined(all, &RankFacts::transport),
                          .build = joined(all, &RankFacts::build),
                          .world = running.world(),
                          .ranks_per_node = running.ranks_per_node,
                          .ranks_per_device = most_ranks_on_a_device(all)};
  if (described.device.name == environment.device && described.nodes == running.nodes &&
      described.ranks_per_node == running.ranks_per_node) {
    environment.intra_node = described.intra_node.name;
    environment.inter_node = described.inter_node.name;
  }
  return environment;
}

std::string device_name([[maybe_unused]] Device device) {
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) return static_cast<const char*>(properties_of(device).name);
#endif
  return processor_name();
}

std::string driver_version_in(std::string_view text) {
  std::stringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    const bool is_version = word.find_first_not_of("0123456789.") == std::string::npos &&
                            word.find('.') != std::string::npos && word.front() != '.';
    if (is_version) return word;
  }
  return {};
}

}  // namespace flex
