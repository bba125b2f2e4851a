#include "profiler/cupti_library.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#ifdef FLEX_HAS_CUPTI
#include <cuda_runtime_api.h>
#endif

namespace flex {
namespace {

template <class F>
void find(void* library, const char* name, F*& function, std::vector<std::string>& missing) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  if (function == nullptr) missing.emplace_back(name);
}

// The functions by name; names that the library lacks.
std::vector<std::string> find_all(void* library, cupti::Api& api) {
  std::vector<std::string> missing;
  find(library, "cuptiGetVersion", api.get_version, missing);
  find(library, "cuptiGetResultString", api.get_result_string, missing);
  find(library, "cuptiSubscribe", api.subscribe, missing);
  find(library, "cuptiUnsubscribe", api.unsubscribe, missing);
  find(library, "cuptiEnableCallback", api.enable_callback, missing);
  find(library, "cuptiActivityRegisterCallbacks", api.register_callbacks, missing);
  find(library, "cuptiActivityEnable", api.enable, missing);
  find(library, "cuptiActivityDisable", api.disable, missing);
  find(library, "cuptiActivityFlushAll", api.flush_all, missing);
  find(library, "cuptiActivityGetNextRecord", api.next_record, missing);
  find(library, "cuptiActivityGetNumDroppedRecords", api.num_dropped_records, missing);
  find(library, "cuptiGetTimestamp", api.get_timestamp, missing);
  find(library, "cuptiActivityPushExternalCorrelationId", api.push_external_id, missing);
  find(library, "cuptiActivityPopExternalCorrelationId", api.pop_external_id, missing);
  find(library, "cuptiGetGraphNodeId", api.get_graph_node_id, missing);
  find(library, "cuptiFinalize", api.finalize, missing);
  return missing;
}

}  // namespace

std::variant<cupti::Api, std::string> open_cupti(std::span<const std::string> paths) {
  std::string failures;
  for (const std::string& path : paths) {
    void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* const reason = dlerror();
      failures += fmt::format("{}{}", failures.empty() ? "" : "; ", reason == nullptr ? path : reason);
      continue;
    }
    cupti::Api api{};
    const std::vector<std::string> missing = find_all(library, api);
    if (missing.empty()) return api;
    static_cast<void>(dlclose(library));
    return fmt::format("{} is not a CUPTI that can be used: it lacks {}", path, fmt::join(missing, ", "));
  }
  return failures.empty() ? "no CUPTI library was named" : "CUPTI could not be loaded: " + failures;
}

std::variant<const cupti::Api*, std::string> load_cupti() {
#ifdef FLEX_HAS_CUPTI
  // The loader's own search first: it finds what the program's environment asks for.
  constexpr int kCudaVersionsPerMajor = 1000;
  static const std::variant<cupti::Api, std::string> kLoaded = open_cupti(std::vector<std::string>{
      fmt::format("libcupti.so.{}", CUDART_VERSION / kCudaVersionsPerMajor), FLEX_CUPTI_LIBRARY});
  if (const auto* api = std::get_if<cupti::Api>(&kLoaded)) return api;
  return std::get<std::string>(kLoaded);
#else
  return "this build has no CUPTI; configure with -DFLEX_CUPTI=ON";
#endif
}

std::string describe_cupti_failure(const cupti::Api& api, const char* call, std::int32_t result) {
  const char* text = nullptr;
  if (api.get_result_string(result, &text) != cupti::kSuccess || text == nullptr) {
    return fmt::format("{}: CUPTI's error {}", call, result);
  }
  return fmt::format("{}: {}", call, text);
}

}  // namespace flex
