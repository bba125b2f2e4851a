# Libraries that every build needs. All that is missing is named at once, with its Debian package.
set(flex_missing "")
set(flex_missing_packages "")

macro(flex_require package debian_package)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    list(APPEND flex_missing ${package})
    list(APPEND flex_missing_packages ${debian_package})
  endif()
endmacro()

set(THREADS_PREFER_PTHREAD_FLAG TRUE)
flex_require(Threads libc6-dev)
flex_require(fmt libfmt-dev)
flex_require(spdlog libspdlog-dev)  # Debian's is the compiled one, on the fmt above
flex_require(nlohmann_json nlohmann-json3-dev)
flex_require(Eigen3 libeigen3-dev NO_MODULE)
flex_require(CLI11 libcli11-dev)
flex_require(SQLite3 libsqlite3-dev 3.37)  # STRICT tables
flex_require(ZLIB zlib1g-dev)
if(FLEX_BUILD_TESTS)
  flex_require(GTest libgmock-dev)
endif()
if(FLEX_BUILD_BENCHMARKS)
  flex_require(benchmark libbenchmark-dev)
endif()

if(flex_missing)
  list(JOIN flex_missing ", " names)
  list(JOIN flex_missing_packages " " packages)
  message(FATAL_ERROR "Not found: ${names}. Install them (Debian, Ubuntu: apt-get install ${packages}), run ./bootstrap, "
                      "or point CMAKE_PREFIX_PATH at where they are.")
endif()
