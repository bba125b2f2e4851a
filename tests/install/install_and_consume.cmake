# Run with cmake -P; see CMakeLists.txt for what it is given.
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed with ${result}: ${command}")
  endif()
endfunction()

set(prefix ${WORK_DIR}/prefix)
file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${CONSUMER_DIR} -B ${WORK_DIR}/build -G ${GENERATOR}
  "-DCMAKE_PREFIX_PATH=${prefix};${PREFIX_PATH}" -DCMAKE_BUILD_TYPE=${BUILD_TYPE} -DCMAKE_CXX_COMPILER=${CXX_COMPILER}
  -DCMAKE_CXX_COMPILER_LAUNCHER=${CXX_COMPILER_LAUNCHER} -DFLEXMOE_INCLUDE_DIR=${prefix}/include/flexmoe)
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer)

# The examples are a project of their own, built as a user builds them.
run(${CMAKE_COMMAND} -S ${EXAMPLES_DIR} -B ${WORK_DIR}/examples -G ${GENERATOR}
  "-DCMAKE_PREFIX_PATH=${prefix};${PREFIX_PATH}" -DCMAKE_BUILD_TYPE=${BUILD_TYPE} -DCMAKE_CXX_COMPILER=${CXX_COMPILER}
  -DCMAKE_CXX_COMPILER_LAUNCHER=${CXX_COMPILER_LAUNCHER})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/examples)
set(trace ${EXAMPLES_DIR}/../traces/samples/drift.jsonl.gz)
run(${WORK_DIR}/examples/training_loop)
run(${WORK_DIR}/examples/search_strategy)
run(${WORK_DIR}/examples/what_if)
run(${WORK_DIR}/examples/what_if ${trace})
run(${WORK_DIR}/examples/read_trace ${trace})

# And one of them without CMake.
find_program(pkg_config pkg-config)
if(pkg_config)
  file(GLOB_RECURSE pc ${prefix}/flexmoe.pc)
  get_filename_component(pc_dir ${pc} DIRECTORY)
  set(ENV{PKG_CONFIG_PATH} ${pc_dir})
  execute_process(COMMAND ${pkg_config} --cflags --libs flexmoe OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run(${CXX_COMPILER} ${EXAMPLES_DIR}/read_trace.cpp -o ${WORK_DIR}/read_trace ${flags})
  run(${WORK_DIR}/read_trace ${trace})
endif()

file(GLOB clusters ${prefix}/share/flexmoe/clusters/*.json)
run(${prefix}/bin/flexmoe cluster check ${clusters})
file(GLOB calibrations ${prefix}/share/flexmoe/calibrations/*.json)
if(NOT calibrations)
  message(FATAL_ERROR "no calibrations were installed")
endif()
# A report finds Vega in the installation, if this build found it.
if(EXISTS ${prefix}/share/flexmoe/vega)
  execute_process(COMMAND ${prefix}/bin/flexmoe simulate --json OUTPUT_FILE ${WORK_DIR}/simulate.json COMMAND_ERROR_IS_FATAL ANY)
  run(${prefix}/bin/flexmoe report ${WORK_DIR}/simulate.json -o ${WORK_DIR}/report.html)
endif()
