# The scripts that start ranks; they train the tiny model that command.sh makes.
function(launcher_test script label)
  foreach(test ${ARGN})
    set(name ${script}_${test})
    add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/${script}.sh $<TARGET_FILE:dujiang> ${work} ${test})
    set_tests_properties(
      ${name}
      PROPERTIES LABELS ${label} TIMEOUT 600 PROCESSORS 2 SKIP_RETURN_CODE 77 FIXTURES_REQUIRED tiny_model
                 ENVIRONMENT "${dujiang_mpi_environment}")
  endforeach()
endfunction()
launcher_test(mpirun quick sigterm_saves_and_ends_with_75 sigusr1_saves_and_ends_with_75 a_host_file_says_how_many_ranks
              nonsense_ends_with_2 a_pbs_job_stops_before_its_walltime_and_submits_the_next
              a_pbs_job_that_runs_again_resumes a_chain_without_progress_ends)
launcher_test(slurm quick a_job_on_both_nodes_finishes a_faulty_config_ends_with_2_and_is_not_requeued)
launcher_test(slurm full the_time_limit_saves_requeues_and_gives_the_same_bits
              a_preempted_job_saves_and_goes_on_when_slurm_requeues_it
              a_preempted_job_that_resubmits_makes_room_at_once more_threads_than_cpus_are_refused
              a_stopped_job_that_nobody_resubmits_ends_with_75 a_cancelled_job_stays_cancelled)

dujiang_test(test_stop_signal quick dujiang_train)
