# The hccl transport over the stand-in of HCCL and ACL.
set(hccl_environment "DUJIANG_HCCL_LIBRARY=$<TARGET_FILE:dujiang_hccl_standin>"
                     "DUJIANG_ACL_LIBRARY=$<TARGET_FILE:dujiang_hccl_standin>")
set(run_ranks ${CMAKE_CURRENT_SOURCE_DIR}/run_ranks.sh)

add_executable(test_hccl_ranks test_hccl_ranks.cpp)
target_link_libraries(test_hccl_ranks PRIVATE comm_conformance)
add_dependencies(test_hccl_ranks dujiang_hccl_standin)
foreach(n 1 2 3 4 5 7 8)
  set(label quick)
  if(n GREATER 4)
    set(label full)
  endif()
  add_test(NAME test_hccl_${n}_ranks COMMAND ${run_ranks} ${n} $<TARGET_FILE:test_hccl_ranks>)
  set_tests_properties(test_hccl_${n}_ranks PROPERTIES LABELS ${label} TIMEOUT 600 PROCESSORS ${n}
                                                       ENVIRONMENT "${hccl_environment}")
endforeach()
function(hccl_part name part ranks)
  add_test(NAME ${name} COMMAND ${run_ranks} ${ranks} $<TARGET_FILE:test_hccl_ranks> ${part})
  set_tests_properties(${name} PROPERTIES LABELS full TIMEOUT 600 PROCESSORS ${ranks} ENVIRONMENT "${hccl_environment}")
endfunction()
hccl_part(hccl_makes_and_ends_many_communicators many 4)
hccl_part(hccl_counts_beyond_2_to_the_31 large 2)

add_executable(hccl_faulty_rank hccl_faulty_rank.cpp)
target_link_libraries(hccl_faulty_rank PRIVATE comm_conformance)
add_test(NAME hccl_faults COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/hccl_faults.sh $<TARGET_FILE:hccl_faulty_rank>
                                  $<TARGET_FILE:dujiang_hccl_standin>)
set_tests_properties(hccl_faults PROPERTIES LABELS quick TIMEOUT 900 PROCESSORS 2)

add_library(hccl_standin_faults STATIC ${CMAKE_SOURCE_DIR}/comm/standin/faults.cpp)
target_link_libraries(hccl_standin_faults PUBLIC dujiang_standin)
dujiang_test(test_hccl quick hccl_standin_faults)
dujiang_test(test_hccl_standin quick dujiang_comm)
add_dependencies(test_hccl_standin dujiang_hccl_standin)
set_tests_properties(test_hccl_standin PROPERTIES TIMEOUT 120 ENVIRONMENT "${hccl_environment}")
