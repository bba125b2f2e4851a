# FLEX_CUDA, FLEX_NCCL, FLEX_MPI, FLEX_CUPTI, FLEX_IMAGES: AUTO takes what is there and says so, ON fails with the remedy,
# OFF never looks. Each sets FLEX_HAS_<NAME> and, for the table at the end of the configuration, FLEX_<NAME>_STATUS.
foreach(feature CUDA NCCL MPI CUPTI IMAGES)
  set(FLEX_${feature} AUTO CACHE STRING "Build with ${feature}: AUTO, ON or OFF")
  set_property(CACHE FLEX_${feature} PROPERTY STRINGS AUTO ON OFF)
  set(FLEX_HAS_${feature} FALSE)
  set(FLEX_${feature}_STATUS "off: FLEX_${feature}=OFF")
  if(NOT FLEX_${feature} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "FLEX_${feature} is '${FLEX_${feature}}'; it is AUTO, ON or OFF")
  endif()
endforeach()

macro(flex_feature_found feature status)
  set(FLEX_HAS_${feature} TRUE)
  set(FLEX_${feature}_STATUS "${status}")
endmacro()

macro(flex_feature_missing feature reason remedy)
  set(FLEX_${feature}_STATUS "off: ${reason}; ${remedy}")
  if(FLEX_${feature} STREQUAL "ON")
    message(FATAL_ERROR "FLEX_${feature}=ON, but ${reason}: ${remedy}, or use -DFLEX_${feature}=OFF.")
  endif()
endmacro()

# nvcc need not be on PATH. check_language tries it in a project of its own, so that a toolkit that does not fit the host
# compiler turns AUTO off instead of ending the configuration.
if(NOT FLEX_CUDA STREQUAL "OFF")
  if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(FLEX_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda /opt/cuda PATH_SUFFIXES bin)
    mark_as_advanced(FLEX_NVCC)
    if(FLEX_NVCC)
      set(ENV{CUDACXX} ${FLEX_NVCC})
    endif()
  endif()
  set(CMAKE_CUDA_ARCHITECTURES 90 CACHE STRING "GPU architectures that device code is compiled for")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    flex_feature_found(CUDA "${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(FLEX_NVCC OR DEFINED ENV{CUDACXX})
    flex_feature_missing(CUDA "$ENV{CUDACXX} cannot compile with this host compiler"
      "set CMAKE_CUDA_COMPILER or CUDAHOSTCXX to a pair that fits")
  else()
    flex_feature_missing(CUDA "no nvcc was found" "install the CUDA Toolkit or set CMAKE_CUDA_COMPILER")
  endif()
endif()

if(NOT FLEX_NCCL STREQUAL "OFF")
  if(NOT FLEX_HAS_CUDA)
    flex_feature_missing(NCCL "it needs CUDA" "use -DFLEX_CUDA=ON")
  else()
    find_package(NCCL QUIET)
    if(NCCL_FOUND)
      flex_feature_found(NCCL "${NCCL_VERSION}")
    else()
      flex_feature_missing(NCCL "no nccl.h and libnccl were found" "install libnccl-dev or set NCCL_ROOT")
    endif()
  endif()
endif()

if(NOT FLEX_CUPTI STREQUAL "OFF")
  if(NOT FLEX_HAS_CUDA)
    flex_feature_missing(CUPTI "it needs CUDA" "use -DFLEX_CUDA=ON")
  elseif(TARGET CUDA::cupti)
    flex_feature_found(CUPTI "of CUDA ${CUDAToolkit_VERSION}")
  else()
    flex_feature_missing(CUPTI "the CUDA Toolkit at ${CUDAToolkit_TARGET_DIR} has no cupti.h and libcupti"
      "install its package cuda-cupti-dev")
  endif()
endif()

if(NOT FLEX_MPI STREQUAL "OFF")
  set(MPI_CXX_SKIP_MPICXX TRUE)  # the C interface, without the withdrawn C++ bindings
  find_package(MPI COMPONENTS CXX QUIET)
  if(MPI_CXX_FOUND)
    flex_feature_found(MPI "MPI ${MPI_CXX_VERSION}, started by ${MPIEXEC_EXECUTABLE}")
  else()
    flex_feature_missing(MPI "no MPI was found" "install libopenmpi-dev and openmpi-bin")
  endif()
endif()

# JPEG and PNG files, and OpenCV to resize and warp what was in them.
if(NOT FLEX_IMAGES STREQUAL "OFF")
  find_package(JPEG QUIET)
  find_package(PNG QUIET)
  find_package(OpenCVImgproc QUIET)
  if(JPEG_FOUND AND PNG_FOUND AND OpenCVImgproc_FOUND)
    flex_feature_found(IMAGES "libjpeg ${JPEG_VERSION}, libpng ${PNG_VERSION_STRING}, OpenCV ${OpenCVImgproc_VERSION}")
  else()
    flex_feature_missing(IMAGES "libjpeg, libpng or OpenCV's imgproc was not found"
      "install libjpeg-dev libpng-dev libopencv-core-dev libopencv-imgproc-dev")
  endif()
endif()

# FLEX_SANITIZE compiles everything but device code with -fsanitize=; the first finding ends the program.
if(FLEX_SANITIZE)
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${FLEX_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g>")
  add_link_options(-fsanitize=${FLEX_SANITIZE})
endif()

# FLEX_FUZZ compiles everything so that libFuzzer sees which branches an input takes.
if(FLEX_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "FLEX_FUZZ=ON needs libFuzzer, which comes with Clang: use -DCMAKE_CXX_COMPILER=clang++.")
  endif()
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link>")
endif()

# A compiler cache that knows the tree's folder serves other clones and build folders too.
find_program(FLEX_CCACHE ccache)
mark_as_advanced(FLEX_CCACHE)
if(FLEX_CCACHE)
  foreach(language CXX CUDA)
    if(NOT CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} ${FLEX_CCACHE})
    endif()
  endforeach()
endif()
