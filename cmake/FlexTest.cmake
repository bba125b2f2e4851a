# flex_test(<name> SOURCES <files> [LINK <targets>] [LABELS <labels>] [TIMEOUT <seconds>] [LONG])
#
# Executable flex_<name>_test of GoogleTest cases; every case is one CTest test, so that a skipped case is reported as
# skipped. LABELS in use: `concurrency` (also run under the sanitizers), `slow` (left out of the quick loop), `mpi`,
# `gpu` (take turns on the GPU), `performance`. LONG: labelled `long`, for rounds of minutes: .ci/full alone runs it, and
# its default time limit is FLEX_LONG_TEST_TIMEOUT_S.
# All tests of one label are built by the target flex_tests_<label>.
include(GoogleTest)

set(FLEX_TEST_TIMEOUT_S 120 CACHE STRING "Default time limit of one test, in seconds")
set(FLEX_LONG_TEST_TIMEOUT_S 3600 CACHE STRING "Default time limit of one test labelled `long`, in seconds")

function(flex_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "LONG" "TIMEOUT" "SOURCES;LINK;LABELS")
  set(default_timeout ${FLEX_TEST_TIMEOUT_S})
  if(arg_LONG)
    list(APPEND arg_LABELS long)
    set(default_timeout ${FLEX_LONG_TEST_TIMEOUT_S})
  endif()
  flex_test_executable(${name} SOURCES ${arg_SOURCES} LINK ${arg_LINK} LABELS ${arg_LABELS})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT ${default_timeout})
  endif()
  # PRE_TEST: asking for the list of cases while two cores compile would run into the time limit of the build step.
  gtest_discover_tests(flex_${name}_test
    DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120 NO_PRETTY_VALUES
    TEST_PREFIX ${name}. WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}
    PROPERTIES TIMEOUT ${arg_TIMEOUT})
  # gtest_discover_tests cannot pass on a list: labels are set by a file that CTest reads after its list. Cases that use
  # the GPU take turns: they measure it, and their sum would not fit its memory.
  set(properties_file ${CMAKE_CURRENT_BINARY_DIR}/flex_${name}_test_properties.cmake)
  set(properties "")
  if(arg_LABELS)
    string(APPEND properties "if(flex_${name}_test_TESTS)
  set_tests_properties(\${flex_${name}_test_TESTS} PROPERTIES LABELS \"${arg_LABELS}\")
endif()
")
  endif()
  if(FLEX_HAS_CUDA)
    set(uses_gpu "/cuda")  # cases over all devices have the device's name in theirs
    if(gpu IN_LIST arg_LABELS)
      set(uses_gpu ".")
    endif()
    string(APPEND properties "foreach(test IN LISTS flex_${name}_test_TESTS)
  if(test MATCHES \"${uses_gpu}\")
    set_tests_properties(\${test} PROPERTIES RESOURCE_LOCK gpu)
  endif()
endforeach()
")
  endif()
  if(properties)
    file(WRITE ${properties_file} "${properties}")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${properties_file})
  endif()
endfunction()

# flex_mpi_test(<name> RANKS <n> SOURCES <files> [LINK <targets>] [LABELS <labels>] [TIMEOUT <seconds>])
#
# The same as one CTest test under mpirun with n ranks, labelled `mpi`; nothing without MPI. The sources may define main()
# (MPI_Init_thread, then RUN_ALL_TESTS); without one they get GoogleTest's.
function(flex_mpi_test name)
  if(NOT FLEX_HAS_MPI)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "RANKS;TIMEOUT" "SOURCES;LINK;LABELS")
  flex_test_executable(${name} SOURCES ${arg_SOURCES} LINK ${arg_LINK} MPI::MPI_CXX LABELS mpi ${arg_LABELS})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT ${FLEX_TEST_TIMEOUT_S})
  endif()
  set(labels mpi ${arg_LABELS})
  add_test(NAME ${name} COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${arg_RANKS} $<TARGET_FILE:flex_${name}_test>)
  set_tests_properties(${name} PROPERTIES
    LABELS "${labels}" TIMEOUT ${arg_TIMEOUT} PROCESSORS ${arg_RANKS} ENVIRONMENT "${FLEX_MPI_ENVIRONMENT}"
    SKIP_REGULAR_EXPRESSION " 0 tests\\.[\n]+.  SKIPPED ")
endfunction()

# What Open MPI needs to run as root and with more ranks than cores; no colours, so that CTest finds the skipped tests.
set(FLEX_MPI_ENVIRONMENT
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 GTEST_COLOR=no)

function(flex_test_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK;LABELS")
  set(target flex_${name}_test)
  add_executable(${target} ${arg_SOURCES})
  target_compile_features(${target} PRIVATE cxx_std_20)
  flex_compile_options(${target})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  # FLEX_SOURCE_DIR: where tests find tests/golden.
  target_compile_definitions(${target} PRIVATE FLEX_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${target} PRIVATE ${arg_LINK} GTest::gmock GTest::gtest_main)
  foreach(label IN LISTS arg_LABELS)
    if(NOT TARGET flex_tests_${label})
      add_custom_target(flex_tests_${label})
    endif()
    add_dependencies(flex_tests_${label} ${target})
  endforeach()
endfunction()
