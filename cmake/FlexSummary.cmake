message(STATUS "flexmoe ${PROJECT_VERSION}")
foreach(feature CUDA NCCL MPI CUPTI)
  message(STATUS "  ${feature}  ${FLEX_HAS_${feature}} (FLEX_${feature}=${FLEX_${feature}})")
endforeach()
