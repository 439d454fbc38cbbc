# Several hosts, as network namespaces of this machine; skipped without the privilege.
# hosts_test(LABEL PROGRAM tests...): hosts.sh with this target's program, one test for each.
function(hosts_test label program)
  foreach(test ${ARGN})
    string(REPLACE "+" "_" name hosts_${test})
    add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/hosts.sh ${MPIEXEC_EXECUTABLE} $<TARGET_FILE:${program}>
                                  ${test})
    dujiang_under_mpirun(${name} ${label} 4)
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
  endforeach()
endfunction()
hosts_test(quick test_comm_mpi 2+2 2+1 1+1+1)
hosts_test(full test_comm_mpi 2+2+2 slow lossy)
hosts_test(full fault_rank cut_a_host_of_two cut_a_host_of_three cut_the_host_of_rank_0 mpirun_gives_up_first
           the_store_gives_up_first)
hosts_test(full dujiang train)
hosts_test(full bootstrap_rank a_wall_before_the_store)
