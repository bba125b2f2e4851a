# flex_module(<name> SOURCES <files> [CUDA_SOURCES <files>] [PRIVATE_HEADERS <files>]
#             [LINK <public>] [LINK_PRIVATE <private>])
#
# Static library flex_<name> with the alias flexmoe::<name>. CUDA_SOURCES are dropped in a build without CUDA. Headers are
# installed unless they are named in PRIVATE_HEADERS. FLEX_HAS_CUDA, FLEX_HAS_NCCL, FLEX_HAS_MPI and FLEX_HAS_CUPTI are
# defined, for the module and its users, where the build has them.
function(flex_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;CUDA_SOURCES;PRIVATE_HEADERS;LINK;LINK_PRIVATE")
  if(NOT FLEX_HAS_CUDA)
    set(arg_CUDA_SOURCES "")
  endif()
  set(target flex_${name})
  add_library(${target} STATIC ${arg_SOURCES} ${arg_CUDA_SOURCES})
  add_library(flexmoe::${name} ALIAS ${target})
  target_compile_features(${target} PUBLIC cxx_std_20)
  flex_compile_options(${target})
  foreach(feature CUDA NCCL MPI CUPTI)
    if(FLEX_HAS_${feature})
      target_compile_definitions(${target} PUBLIC FLEX_HAS_${feature}=1)
    endif()
  endforeach()
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/flexmoe>)
  target_link_libraries(${target} PUBLIC ${arg_LINK} PRIVATE ${arg_LINK_PRIVATE})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON)
  install(TARGETS ${target} EXPORT flexmoeTargets)
  list(TRANSFORM arg_PRIVATE_HEADERS PREPEND ${name}/)
  set_property(GLOBAL APPEND PROPERTY FLEX_PRIVATE_HEADERS ${arg_PRIVATE_HEADERS})
endfunction()

# Warnings and language of every target of the project.
function(flex_compile_options target)
  # CMake 3.25 does not know that nvcc 13 speaks C++20 and drops CUDA_STANDARD 20 without a word.
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr>"
    "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wno-sign-conversion;-Wno-missing-field-initializers>"
    "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${FLEX_WERROR}>>:-Werror>")
endfunction()
