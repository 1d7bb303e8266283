# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where: tool, library, header, CMake package, .pc.

include(CMakePackageConfigHelpers)

# The installed tree may be moved as a whole: paths inside it are relative.
file(RELATIVE_PATH bin_to_lib "/prefix/${CMAKE_INSTALL_BINDIR}" "/prefix/${CMAKE_INSTALL_LIBDIR}")
set_target_properties(allshard PROPERTIES INSTALL_RPATH "$ORIGIN"
                                          INSTALL_RPATH_USE_LINK_PATH ON)
set_target_properties(allshard_tool PROPERTIES INSTALL_RPATH "$ORIGIN/${bin_to_lib}"
                                               INSTALL_RPATH_USE_LINK_PATH ON)

install(TARGETS allshard EXPORT allshardTargets)
install(TARGETS allshard_tool)
install(FILES "${PROJECT_SOURCE_DIR}/include/allshard.h"
        DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
# Job scripts look for each other there.
install(DIRECTORY "${PROJECT_SOURCE_DIR}/slurm/"
        DESTINATION "${CMAKE_INSTALL_DATADIR}/allshard/slurm" USE_SOURCE_PERMISSIONS)

# The package leads its users to the same MPI. FindMPI may know the compiler by a bare name.
if(ALLSHARD_MPI)
    get_filename_component(mpi_compiler "${MPI_C_COMPILER}" PROGRAM)
endif()
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/allshard")
install(EXPORT allshardTargets NAMESPACE allshard:: DESTINATION "${package_dir}")
configure_package_config_file(
    "${CMAKE_CURRENT_LIST_DIR}/allshardConfig.cmake.in"
    "${PROJECT_BINARY_DIR}/allshardConfig.cmake"
    INSTALL_DESTINATION "${package_dir}")
# Before 1.0 a minor version may break its users.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/allshardConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/allshardConfig.cmake"
              "${PROJECT_BINARY_DIR}/allshardConfigVersion.cmake"
        DESTINATION "${package_dir}")

# allshard.pc: with it a plain C compiler is enough, mpicc is welcome too.
set(pc_cflags)
set(pc_libs)
foreach(definition IN LISTS allshard_public_definitions)
    string(APPEND pc_cflags " -D${definition}")
endforeach()
if(ALLSHARD_MPI)
    foreach(dir IN LISTS MPI_C_INCLUDE_DIRS)
        string(APPEND pc_cflags " -I${dir}")
    endforeach()
    foreach(definition IN LISTS MPI_C_COMPILE_DEFINITIONS)
        string(APPEND pc_cflags " -D${definition}")
    endforeach()
    foreach(library IN LISTS MPI_C_LIBRARIES)
        string(APPEND pc_libs " ${library}")
    endforeach()
endif()
set(pc_system "-lpthread -lm")
foreach(library IN LISTS CMAKE_DL_LIBS)
    string(APPEND pc_system " -l${library}")
endforeach()
if(BUILD_SHARED_LIBS)
    set(pc_requires "Requires.private: jansson, libxxhash, zlib")
    set(pc_libs_private "Libs.private: ${pc_system}")
else()
    set(pc_requires "Requires: jansson, libxxhash, zlib")
    if(allshard_with_uring)
        string(APPEND pc_requires ", liburing")
    endif()
    set(pc_libs_private "")
    string(APPEND pc_libs " ${pc_system}")
endif()
# Relative to the file itself, so that the tree can be moved; absolute
# directories given by the caller stay as they are.
file(RELATIVE_PATH pc_prefix "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
foreach(name INCLUDEDIR LIBDIR)
    if(IS_ABSOLUTE "${CMAKE_INSTALL_${name}}")
        set(pc_${name} "${CMAKE_INSTALL_${name}}")
    else()
        set(pc_${name} "\${prefix}/${CMAKE_INSTALL_${name}}")
    endif()
endforeach()
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    set(pc_prefix_line "${CMAKE_INSTALL_PREFIX}")
else()
    set(pc_prefix_line "\${pcfiledir}/${pc_prefix}")
endif()
configure_file("${CMAKE_CURRENT_LIST_DIR}/allshard.pc.in" "${PROJECT_BINARY_DIR}/allshard.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/allshard.pc"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
