#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/cosine_map.h"
#include "kernels/matrix_map.h"
#include "kernels/nn/position_bias.h"
#include "kernels/nn/window_attention.h"

namespace flex {
namespace {

enum Part : std::uint8_t { kQuery, kKey, kValue };

template <class T>
using OfWindow = std::array<T, static_cast<std::size_t>(kMaxWindowSize)>;

// One head of one window of one image. Slots without a position lie in the padding.
template <class T, class Args>
class HeadWindow {
 public:
  HeadWindow(const Args& args, std::int64_t image, std::int64_t window, std::int64_t head)
      : args_(args),
        layout_(args.map->layout()),
        head_(head),
        head_dim_(args.qkv.size(1) / (3 * args.num_heads)),
        first_row_(image * layout_.map.area()),
        positions_(args.map->positions().template as<std::int32_t>() + window * layout_.window_size()),
        regions_(args.map->regions().template as<std::uint8_t>() + window * layout_.window_size()) {
    factor_ = args.kind == AttentionKind::kCosine ? cosine_scale(args.scale.template as<T>()[head])
                                                  : T(1) / std::sqrt(static_cast<T>(head_dim_));
    for (std::int64_t slot = 0; slot < size(); ++slot) {
      if (!is_inside(slot)) continue;
      const bool cosine = args.kind == AttentionKind::kCosine;
      query_divisors_[slot] = cosine ? floored(row(args.qkv, kQuery, slot).norm()) : T(1);
      key_divisors_[slot] = cosine ? floored(row(args.qkv, kKey, slot).norm()) : T(1);
    }
  }

  [[nodiscard]] std::int64_t size() const { return layout_.window_size(); }
  [[nodiscard]] bool is_inside(std::int64_t slot) const { return positions_[slot] >= 0; }
  [[nodiscard]] T factor() const { return factor_; }
  [[nodiscard]] T query_divisor(std::int64_t slot) const { return query_divisors_[slot]; }
  [[nodiscard]] T key_divisor(std::int64_t slot) const { return key_divisors_[slot]; }

  // This head's columns of a slot in `rows` of [parts][heads][d].
  [[nodiscard]] ConstRowMap<T> row(const ConstTensorView& rows, Part part, std::int64_t slot) const {
    return {rows.slice<T>(first_row_ + positions_[slot]) + (part * args_.num_heads + head_) * head_dim_,
            head_dim_};
  }
  [[nodiscard]] RowMap<T> row(const TensorView& rows, Part part, std::int64_t slot) const {
    return {rows.slice<T>(first_row_ + positions_[slot]) + (part * args_.num_heads + head_) * head_dim_,
            head_dim_};
  }
  [[nodiscard]] ConstRowMap<T> out_row(const ConstTensorView& rows, std::int64_t slot) const {
    return row(rows, kQuery, slot);  // rows of one part
  }

  // Index of the offset between two slots in a row of the bias table.
  [[nodiscard]] std::int64_t offset(std::int64_t query, std::int64_t key) const {
    const Extent window = layout_.window;
    const std::int64_t rows = query / window.columns - key / window.columns + window.rows - 1;
    const std::int64_t columns = query % window.columns - key % window.columns + window.columns - 1;
    return rows * (2 * window.columns - 1) + columns;
  }
  // Score of a key inside the map.
  [[nodiscard]] T score(std::int64_t query, std::int64_t key) const {
    const T product = row(args_.qkv, kQuery, query).dot(row(args_.qkv, kKey, key));
    const T penalty = regions_[query] == regions_[key] ? T(0) : static_cast<T>(kRegionPenalty);
    return factor_ * product / (query_divisors_[query] * key_divisors_[key]) +
           args_.bias_table.template slice<T>(head_)[offset(query, key)] + penalty;
  }

 private:
  const Args& args_;
  const WindowLayout& layout_;
  std::int64_t head_;
  std::int64_t head_dim_;
  std::int64_t first_row_;
  const std::int32_t* positions_;
  const std::uint8_t* regions_;
  T factor_ = T(1);
  OfWindow<T> query_divisors_{};  // norms, with the cosine
  OfWindow<T> key_divisors_{};
};

// Calls function(head window, index of the window among all images', head).
template <class T, class Args, class Function>
void for_each_head_window(const Args& args, const Function& function) {
  const WindowLayout& layout = args.map->layout();
  const std::int64_t images = args.qkv.size(0) / layout.map.area();
  const std::int64_t windows = layout.num_windows().area();
  for (std::int64_t image = 0; image < images; ++image) {
    for (std::int64_t window = 0; window < windows; ++window) {
      for (std::int64_t head = 0; head < args.num_heads; ++head) {
        function(HeadWindow<T, Args>(args, image, window, head), image * windows + window, head);
      }
    }
  }
}

// out of one query, and the logsumexp of its scores.
template <class T>
T attend(const HeadWindow<T, WindowAttentionArgs>& window, const WindowAttentionArgs& args,
         std::int64_t query) {
  OfWindow<T> scores;
  T largest = -std::numeric_limits<T>::infinity();
  for (std::int64_t key = 0; key < window.size(); ++key) {
    if (!window.is_inside(key)) continue;
    scores[key] = window.score(query, key);
    largest = std::max(largest, scores[key]);
  }
  T sum = T(0);
  auto out = window.row(args.out, kQuery, query);
  out.setZero();
  for (std::int64_t key = 0; key < window.size(); ++key) {
    if (!window.is_inside(key)) continue;
    const T weight = std::exp(scores[key] - largest);
    sum += weight;
    out += weight * window.row(args.qkv, kValue, key);
  }
  out /= sum;
  return largest + std::log(sum);
}

// Adds one query's part to all gradients; those of queries and keys are by the normalized vectors so far.
template <class T>
void attend_backward(const HeadWindow<T, WindowAttentionBackwardArgs>& window,
                     const WindowAttentionBackwardArgs& args, std::int64_t query, T logsumexp,
                     T* dbias_table) {
  const auto dout = window.out_row(args.dout, query);
  const T along = dout.dot(window.out_row(args.out, query));  // sum over keys of weight * dweight
  auto dquery = window.row(args.dqkv, kQuery, query);
  const T query_factor = window.factor() / window.query_divisor(query);
  for (std::int64_t key = 0; key < window.size(); ++key) {
    if (!window.is_inside(key)) continue;
    const T weight = std::exp(window.score(query, key) - logsumexp);
    const T dscore = weight * (dout.dot(window.row(args.qkv, kValue, key)) - along);
    dbias_table[window.offset(query, key)] += dscore;
    const T key_factor = window.factor() / window.key_divisor(key);
    dquery += dscore * key_factor * window.row(args.qkv, kKey, key);
    window.row(args.dqkv, kKey, key) += dscore * query_factor * window.row(args.qkv, kQuery, query);
    window.row(args.dqkv, kValue, key) += weight * dout;
  }
}

}  // namespace

template <class T>
void window_attention_cpu(const WindowAttentionArgs& args) {
  for_each_head_window<T>(args, [&](const auto& window, std::int64_t index, std::int64_t head) {
    for (std::int64_t query = 0; query < window.size(); ++query) {
      const T logsumexp = window.is_inside(query) ? attend<T>(window, args, query) : T(0);
      if (args.logsumexp.present()) args.logsumexp.slice<T>(index)[head * window.size() + query] = logsumexp;
    }
  });
}

// A query's part of dscale is <q/|q|, gradient by q/|q|>: all scores are proportional to the factor.
template <class T>
void window_attention_backward_cpu(const WindowAttentionBackwardArgs& args) {
  as_matrix<T>(args.dqkv).setZero();
  as_matrix<T>(args.dbias_table).setZero();
  const bool cosine = args.kind == AttentionKind::kCosine;
  if (cosine && !args.accumulate_dscale) RowMap<T>(args.dscale.as<T>(), args.num_heads).setZero();
  for_each_head_window<T>(args, [&](const auto& window, std::int64_t index, std::int64_t head) {
    const T* logsumexp = args.logsumexp.slice<T>(index) + head * window.size();
    for (std::int64_t query = 0; query < window.size(); ++query) {
      if (!window.is_inside(query)) continue;
      attend_backward<T>(window, args, query, logsumexp[query], args.dbias_table.slice<T>(head));
    }
    if (!cosine) return;
    for (std::int64_t slot = 0; slot < window.size(); ++slot) {
      if (!window.is_inside(slot)) continue;
      const auto query = window.row(args.qkv, kQuery, slot);
      const auto dquery = window.row(args.dqkv, kQuery, slot);
      if (!is_clamped(args.scale.as<T>()[head]))
        args.dscale.as<T>()[head] += query.dot(dquery) / window.query_divisor(slot);
      normalize_backward(query, dquery);
      normalize_backward(window.row(args.qkv, kKey, slot), window.row(args.dqkv, kKey, slot));
    }
  });
}

template void window_attention_cpu<float>(const WindowAttentionArgs&);
template void window_attention_cpu<double>(const WindowAttentionArgs&);
template void window_attention_backward_cpu<float>(const WindowAttentionBackwardArgs&);
template void window_attention_backward_cpu<double>(const WindowAttentionBackwardArgs&);

}  // namespace flex
