# The nccl transport: over the stand-in everywhere, and on real GPUs where there are some.
if(NOT TARGET dujiang_nccl_standin)
  return()
endif()

# The programs define NCCL's and CUDA's functions themselves, so those of the libraries aren't used.
function(dujiang_nccl_program name)
  add_executable(${name} ${name}.cpp)
  target_link_libraries(${name} PRIVATE dujiang_nccl_standin comm_conformance)
endfunction()
set(run_ranks ${CMAKE_CURRENT_SOURCE_DIR}/run_ranks.sh)

dujiang_nccl_program(nccl_faulty_rank)
add_test(NAME nccl_faults COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/nccl_faults.sh $<TARGET_FILE:nccl_faulty_rank>)
set_tests_properties(nccl_faults PROPERTIES LABELS quick TIMEOUT 600 PROCESSORS 2)

dujiang_nccl_program(nccl_ranks)
foreach(n 1 2 3 4 5 7 8)
  set(label full)
  if(n LESS_EQUAL 4)
    set(label quick)
  endif()
  foreach(what made behaviour hasty conformance)
    add_test(NAME nccl_${what}_${n}_ranks COMMAND ${run_ranks} ${n} $<TARGET_FILE:nccl_ranks> ${what})
    set_tests_properties(nccl_${what}_${n}_ranks PROPERTIES LABELS ${label} TIMEOUT 600 PROCESSORS ${n})
  endforeach()
endforeach()
add_test(NAME nccl_makes_and_ends_many_communicators COMMAND ${run_ranks} 4 $<TARGET_FILE:nccl_ranks> many)
add_test(NAME nccl_counts_beyond_2_to_the_31 COMMAND ${run_ranks} 2 $<TARGET_FILE:nccl_ranks> large)
set_tests_properties(nccl_makes_and_ends_many_communicators nccl_counts_beyond_2_to_the_31
                     PROPERTIES LABELS full TIMEOUT 600 PROCESSORS 4)

# On real hardware.
add_executable(nccl_on_gpu nccl_ranks.cpp)
target_link_libraries(nccl_on_gpu PRIVATE comm_conformance dujiang_nccl_headers ${DUJIANG_CUDA_RUNTIME})
target_compile_definitions(nccl_on_gpu PRIVATE NCCL_RANKS_ON_GPU)
add_test(NAME nccl_on_gpu COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/nccl_on_gpu.sh $<TARGET_FILE:nccl_on_gpu>)
set_tests_properties(nccl_on_gpu PROPERTIES LABELS full TIMEOUT 900 SKIP_RETURN_CODE 77 RUN_SERIAL ON)
add_test(NAME nccl_without_a_gpu_is_refused
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/nccl_without_gpu.sh $<TARGET_FILE:nccl_on_gpu>)
set_tests_properties(nccl_without_a_gpu_is_refused PROPERTIES LABELS quick TIMEOUT 120)
