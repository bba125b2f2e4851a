# cmake -DMPIRUN=... -DNUM_RANKS_FLAG=... -DJOB=... -DWAY=... -DSTATUS=<n> -DTEXT=<part of stderr> -P mpi_job_test.cmake
# Runs a job of 4 ranks that ends in WAY, and fails unless mpirun ends in time, with STATUS and with TEXT on stderr.
set(limit_s 30)
execute_process(
  COMMAND ${MPIRUN} ${NUM_RANKS_FLAG} 4 ${JOB} ${WAY}
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output TIMEOUT ${limit_s})
if(NOT status STREQUAL STATUS)
  message(FATAL_ERROR "the job ended with '${status}', expected ${STATUS} (limit ${limit_s} s):\n${output}")
endif()
string(FIND "${output}" "${TEXT}" place)
if(place EQUAL -1)
  message(FATAL_ERROR "the job did not print '${TEXT}':\n${output}")
endif()
message(STATUS "${output}")
