#pragma once
// MPI's error codes as Errors. Included by sources of the mpi transport only.

#include <mpi.h>

#include <string>

#include "framework/base/check.h"

namespace dujiang::comm {

inline std::string mpi_error(int code, const char* call) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return fmt::format("{} failed: {}", call, text);
}

inline void check_mpi(int code, const char* call) {
  if (code != MPI_SUCCESS) fail("{}", mpi_error(code, call));
}

}  // namespace dujiang::comm
