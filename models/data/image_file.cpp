#include "models/data/image_file.h"

#include "base/require.h"
#ifdef FLEX_HAS_IMAGES
#include "base/read_file.h"
#include "models/data/image_decoder.h"
#endif

namespace flex {

#ifdef FLEX_HAS_IMAGES
void read_image_file(const std::filesystem::path& path, std::int64_t least_side, RgbImage& image) {
  constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 30;
  decode_image(read_file(path, kMaxFileBytes), path.string(), least_side, image);
}
#else
void read_image_file(const std::filesystem::path& path, std::int64_t /*least_side*/, RgbImage& /*image*/) {
  fail("{}: this build reads no image files; configure it with -DFLEX_IMAGES=ON", path.string());
}
#endif

}  // namespace flex
