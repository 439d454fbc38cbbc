# Every layout gives the same model: on real processes, a core of the matrix on made-up text, all of it on real text where
# that is there.
set(DUJIANG_POEMS ${CMAKE_SOURCE_DIR}/../shared/data/poetry.jsonl.zst CACHE FILEPATH
    "Poems for tests on real text: JSON lines with a field text")
add_executable(test_layouts_mpi test_layouts_mpi.cpp)
target_link_libraries(test_layouts_mpi PRIVATE dujiang_test_training MPI::MPI_CXX)
foreach(n 2 4)
  set(mpirun ${MPIEXEC_EXECUTABLE} -n ${n} --oversubscribe --bind-to none)
  add_test(NAME layouts_on_${n}_ranks COMMAND ${mpirun} $<TARGET_FILE:test_layouts_mpi> core)
  dujiang_under_mpirun(layouts_on_${n}_ranks quick ${n})
  add_test(NAME all_layouts_on_${n}_ranks_and_real_text
           COMMAND ${mpirun} $<TARGET_FILE:test_layouts_mpi> whole ${DUJIANG_POEMS})
  dujiang_under_mpirun(all_layouts_on_${n}_ranks_and_real_text full ${n})
  set_tests_properties(all_layouts_on_${n}_ranks_and_real_text PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1500)
  # Ranks of two threads each are more than the processors: none may spin while it waits for the others.
  set_property(TEST layouts_on_${n}_ranks all_layouts_on_${n}_ranks_and_real_text
               APPEND PROPERTY ENVIRONMENT OMP_WAIT_POLICY=passive)
endforeach()
add_executable(test_layout_changes_mpi test_layout_changes_mpi.cpp)
target_link_libraries(test_layout_changes_mpi PRIVATE dujiang_test_training MPI::MPI_CXX)
add_test(NAME layouts_change_at_a_resume COMMAND ${MPIEXEC_EXECUTABLE} -n 4 --oversubscribe --bind-to none
                                                 $<TARGET_FILE:test_layout_changes_mpi>)
dujiang_under_mpirun(layouts_change_at_a_resume quick 4)
dujiang_test(test_layouts quick dujiang_test_training)
dujiang_test(test_layout_shapes quick dujiang_test_training)
dujiang_test(test_layout_refusals quick dujiang_test_training)
