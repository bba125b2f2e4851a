# OpenCVImgproc::imgproc, OpenCVImgproc_VERSION: OpenCV's core and imgproc alone, which Debian packages without the
# OpenCVConfig.cmake of the whole. Looks in OpenCV_ROOT and in the usual places.
find_path(OpenCVImgproc_INCLUDE_DIR opencv2/imgproc.hpp HINTS ENV OpenCV_ROOT PATH_SUFFIXES include/opencv4 opencv4)
# What depends on the architecture lies elsewhere in Debian, and beside the rest in OpenCV's own installation.
find_path(OpenCVImgproc_ARCH_INCLUDE_DIR opencv2/cvconfig.h
  HINTS ${OpenCVImgproc_INCLUDE_DIR} PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE} PATH_SUFFIXES opencv4)
find_library(OpenCVImgproc_LIBRARY opencv_imgproc HINTS ENV OpenCV_ROOT PATH_SUFFIXES lib lib64)
find_library(OpenCVImgproc_CORE_LIBRARY opencv_core HINTS ENV OpenCV_ROOT PATH_SUFFIXES lib lib64)
mark_as_advanced(OpenCVImgproc_INCLUDE_DIR OpenCVImgproc_ARCH_INCLUDE_DIR OpenCVImgproc_LIBRARY
  OpenCVImgproc_CORE_LIBRARY)

if(OpenCVImgproc_INCLUDE_DIR)
  file(STRINGS ${OpenCVImgproc_INCLUDE_DIR}/opencv2/core/version.hpp numbers
    REGEX "#define CV_VERSION_(MAJOR|MINOR|REVISION) +[0-9]+")
  list(TRANSFORM numbers REPLACE "[^0-9]" "")
  list(JOIN numbers "." OpenCVImgproc_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenCVImgproc
  REQUIRED_VARS OpenCVImgproc_LIBRARY OpenCVImgproc_CORE_LIBRARY OpenCVImgproc_INCLUDE_DIR OpenCVImgproc_ARCH_INCLUDE_DIR
  VERSION_VAR OpenCVImgproc_VERSION)

if(OpenCVImgproc_FOUND AND NOT TARGET OpenCVImgproc::imgproc)
  add_library(OpenCVImgproc::imgproc UNKNOWN IMPORTED)
  set_target_properties(OpenCVImgproc::imgproc PROPERTIES
    IMPORTED_LOCATION ${OpenCVImgproc_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES "${OpenCVImgproc_INCLUDE_DIR};${OpenCVImgproc_ARCH_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES ${OpenCVImgproc_CORE_LIBRARY})
endif()
