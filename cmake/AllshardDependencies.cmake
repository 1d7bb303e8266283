# SPDX-License-Identifier: Apache-2.0
# Finds what allshard needs, and says by package name what is missing.
# Sets: allshard_public_libraries, allshard_private_libraries,
#       allshard_public_definitions, allshard_private_definitions, CMOCKA_FOUND (target PkgConfig::CMOCKA).

find_package(PkgConfig QUIET)
if(NOT PKG_CONFIG_FOUND)
    message(FATAL_ERROR "pkg-config is missing (Debian, Ubuntu: pkg-config; Fedora: pkgconf).")
endif()

function(allshard_require prefix module debian fedora)
    pkg_check_modules(${prefix} QUIET IMPORTED_TARGET GLOBAL ${module})
    if(NOT ${prefix}_FOUND)
        message(FATAL_ERROR "${module} is missing. Install its development package "
                            "(Debian, Ubuntu: ${debian}; Fedora: ${fedora}).")
    endif()
endfunction()

allshard_require(JANSSON jansson libjansson-dev jansson-devel)
allshard_require(XXHASH libxxhash libxxhash-dev xxhash-devel)
allshard_require(ZLIB zlib zlib1g-dev zlib-devel)
# Without it the engine "uring" works as "direct" does.
pkg_check_modules(URING QUIET IMPORTED_TARGET GLOBAL liburing)
pkg_check_modules(CMOCKA QUIET IMPORTED_TARGET cmocka)

set(CMAKE_THREAD_PREFER_PTHREAD TRUE)
set(THREADS_PREFER_PTHREAD_FLAG TRUE)
find_package(Threads REQUIRED)

set(allshard_public_libraries)
set(allshard_public_definitions)
set(allshard_private_definitions)
set(allshard_private_libraries PkgConfig::JANSSON PkgConfig::XXHASH PkgConfig::ZLIB Threads::Threads m
                               ${CMAKE_DL_LIBS})

option(ALLSHARD_URING "Use io_uring where liburing is there" ON)
if(ALLSHARD_URING AND URING_FOUND)
    list(APPEND allshard_private_libraries PkgConfig::URING)
    list(APPEND allshard_private_definitions ALLSHARD_HAVE_URING=1)
    set(allshard_with_uring ON)
else()
    set(allshard_with_uring OFF)
    message(STATUS "liburing: none (Debian, Ubuntu: liburing-dev; Fedora: liburing-devel); "
                   "the engine uring will work as direct does")
endif()

if(ALLSHARD_MPI)
    find_package(MPI QUIET COMPONENTS C)
    if(NOT MPI_C_FOUND)
        message(FATAL_ERROR "MPI for C is missing. Install one (Debian, Ubuntu: libopenmpi-dev and "
                            "openmpi-bin; Fedora: openmpi-devel), name its compiler with "
                            "-DMPI_C_COMPILER=mpicc, or build for one process with "
                            "-DALLSHARD_MPI=OFF.")
    endif()
    set(allshard_public_libraries MPI::MPI_C)
    message(STATUS "MPI ${MPI_C_VERSION}: ${MPI_C_COMPILER}, started by ${MPIEXEC_EXECUTABLE}")
else()
    set(allshard_public_definitions ALLSHARD_NO_MPI=1)
    message(STATUS "MPI: off, one process")
endif()
