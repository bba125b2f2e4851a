#include "kernels/matrix_map.h"
#include "kernels/nn/residual.h"
#include "kernels/nn/sample_rows.h"

namespace flex {

template <class T>
void add_residual_cpu(const AddResidualArgs& args) {
  const std::int64_t of_sample = rows_per_sample(args.x.size(0), args.factors);
  for (std::int64_t row = 0; row < args.x.size(0); ++row) {
    const T factor = args.factors.present() ? args.factors.as<T>()[row / of_sample] : T(1);
    row_of<T>(args.y, row) = row_of<T>(args.residual, row) + factor * row_of<T>(args.x, row);
  }
}

template <class T>
void scale_rows_cpu(const ScaleRowsArgs& args) {
  const std::int64_t of_sample = rows_per_sample(args.x.size(0), args.factors);
  for (std::int64_t row = 0; row < args.x.size(0); ++row) {
    row_of<T>(args.y, row) = args.factors.as<T>()[row / of_sample] * row_of<T>(args.x, row);
  }
}

template void add_residual_cpu<float>(const AddResidualArgs&);
template void add_residual_cpu<double>(const AddResidualArgs&);
template void scale_rows_cpu<float>(const ScaleRowsArgs&);
template void scale_rows_cpu<double>(const ScaleRowsArgs&);

}  // namespace flex
