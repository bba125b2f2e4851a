// Reads a routing trace record by record, however long, and prints for each layer how uneven its routing was
// and which expert was the fullest.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "traces/trace_reader.h"

namespace {

struct LayerLook {
  std::vector<std::int64_t> choices;  // by expert, over the whole trace
  double most_uneven = 1;             // the largest max / mean of a pass
  std::int64_t step = 0;              // in which it was
};

void look(const flex::TraceRecord& record, std::int64_t num_experts, LayerLook& layer) {
  layer.choices.resize(static_cast<std::size_t>(num_experts));
  for (std::size_t i = 0; i < record.counts.num_rows(); ++i) {
    for (const flex::ExpertCount& count : record.counts.row(i).experts) {
      layer.choices[static_cast<std::size_t>(count.expert)] += count.choices;
    }
  }
  const double max_over_mean = summarize(record.counts, num_experts).max_over_mean;
  if (max_over_mean <= layer.most_uneven) return;
  layer.most_uneven = max_over_mean;
  layer.step = record.step;
}

void print(const char* path) {
  flex::TraceReader reader(path);  // checks all that it reads
  const auto& layers = reader.header().layers;
  std::vector<LayerLook> looks(layers.size());
  flex::TraceRecord record;
  while (reader.next(record)) {
    if (record.pass == flex::Pass::kBackward) continue;  // its counts are those of the forward pass
    const auto layer = static_cast<std::size_t>(record.layer);
    look(record, layers[layer].workload.num_experts, looks[layer]);
  }
  for (std::size_t i = 0; i < looks.size(); ++i) {
    const auto fullest = std::ranges::max_element(looks[i].choices);
    if (fullest == looks[i].choices.end()) continue;
    fmt::print("layer {}: expert {} had most choices ({}); max / mean was {:.2f} in step {}\n", i,
               fullest - looks[i].choices.begin(), *fullest, looks[i].most_uneven, looks[i].step);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: {} TRACE.jsonl[.gz]\n", argv[0]);
    return 2;
  }
  try {
    print(argv[1]);
  } catch (const flex::Error& error) {  // one line: FILE:LINE: what is there; what would be right
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
