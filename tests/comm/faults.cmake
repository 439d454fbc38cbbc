# Faults with real processes: one test for each, so that they run side by side.
add_executable(fault_rank fault_rank.cpp)
target_link_libraries(fault_rank PRIVATE dujiang_comm)
foreach(fault none killed rank_0_killed killed_while_computing stopped rank_0_stopped operation size dtype reduction root
              unchecked exit return throw late too_late terminated small_shm port_in_use two_jobs leftovers)
  add_test(NAME fault_${fault} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/faults.sh ${MPIEXEC_EXECUTABLE}
                                       $<TARGET_FILE:fault_rank> ${fault})
  dujiang_under_mpirun(fault_${fault} quick 4)
  set_tests_properties(fault_${fault} PROPERTIES SKIP_RETURN_CODE 77)
endforeach()
