# CMake's toolchain for 64-bit Arm: Debian's cross compiler, and the libraries under DUJIANG_SYSROOT
# (launch/cross_aarch64.sh, which unpacks them).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES DUJIANG_SYSROOT)
set(CMAKE_SYSROOT ${DUJIANG_SYSROOT})
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${DUJIANG_SYSROOT})

# Libraries come from there alone. The compiler wrappers of MPI and HDF5 would name this machine's.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
set(libraries ${DUJIANG_SYSROOT}/usr/lib/aarch64-linux-gnu)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${DUJIANG_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${libraries}/pkgconfig:${DUJIANG_SYSROOT}/usr/share/pkgconfig)
set(MPI_SKIP_COMPILER_WRAPPER TRUE)
set(MPI_CXX_HEADER_DIR ${libraries}/openmpi/include)
set(MPI_CXX_LIB_NAMES mpi)
set(MPI_mpi_LIBRARY ${libraries}/openmpi/lib/libmpi.so)
set(HDF5_C_COMPILER_EXECUTABLE FALSE)
set(HDF5_ROOT /usr/lib/aarch64-linux-gnu/hdf5/serial)
