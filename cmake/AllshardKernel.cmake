# SPDX-License-Identifier: Apache-2.0
# The pack kernel's code for CUDA devices: src/device/pack_kernel.cu → PTX → a C file with the PTX
# in an array. By nvcc, or by a clang that knows NVPTX and then needs none of CUDA's files; if neither
# can do it the library is built without, and works without, more slowly.
# Sets: allshard_kernel_sources, allshard_kernel_definition (of src/device/cuda_kernel.c)

set(ALLSHARD_KERNEL auto CACHE STRING
    "Compiler of the kernel for CUDA devices: auto (nvcc, else clang, else none), nvcc, clang, off")
set_property(CACHE ALLSHARD_KERNEL PROPERTY STRINGS auto nvcc clang off)

set(kernel_source "${PROJECT_SOURCE_DIR}/src/device/pack_kernel.cu")
set(kernel_folder "${PROJECT_BINARY_DIR}/kernel")

# The lowest architecture that this nvcc knows. Before CUDA 11 it does not say; those know 50.
function(allshard_nvcc_arch nvcc out)
    execute_process(COMMAND "${nvcc}" --list-gpu-arch OUTPUT_VARIABLE list ERROR_QUIET)
    string(REGEX MATCHALL "compute_[0-9]+" list "${list}")
    set(lowest 50)
    if(list)
        string(REPLACE "compute_" "" list "${list}")
        list(SORT list COMPARE NATURAL)
        list(GET list 0 lowest)
    endif()
    set(${out} ${lowest} PARENT_SCOPE)
endfunction()

# What makes kernel.ptx of the source, and the text that the program shows of it.
function(allshard_kernel_command compiler out_command out_how)
    execute_process(COMMAND "${ALLSHARD_KERNEL_${compiler}}" --version
                    OUTPUT_VARIABLE version ERROR_QUIET)
    if(compiler STREQUAL "nvcc")
        allshard_nvcc_arch("${ALLSHARD_KERNEL_nvcc}" arch)
        set(command "${ALLSHARD_KERNEL_nvcc}" -ptx -arch=compute_${arch} -std=c++17 -O3)
        string(REGEX MATCH "V([0-9.]+)" version "${version}")
    else()
        # 50 is the lowest that all versions of clang have in common.
        set(arch 50)
        set(command "${ALLSHARD_KERNEL_clang}" -x cuda --cuda-device-only --cuda-gpu-arch=sm_${arch}
                    -nocudainc -nocudalib -ffreestanding -Wno-unknown-cuda-version -std=c++17 -O3
                    -S)
        string(REGEX MATCH "clang version ([0-9.]+)" version "${version}")
    endif()
    set(version "${CMAKE_MATCH_1}")
    set(${out_command} ${command} "-I${PROJECT_SOURCE_DIR}/src" "${kernel_source}" PARENT_SCOPE)
    string(REGEX REPLACE "(.)$" ".\\1" capability "${arch}")
    set(${out_how} "${compiler} ${version}, for compute capability ${capability} and above"
        PARENT_SCOPE)
endfunction()

# Can it? An nvcc may lack a host compiler that it likes, a clang the target.
function(allshard_kernel_try compiler out)
    set(${out} FALSE PARENT_SCOPE)
    if(NOT ALLSHARD_KERNEL_${compiler})
        set(why "there is none" PARENT_SCOPE)
        return()
    endif()
    allshard_kernel_command(${compiler} command how)
    execute_process(COMMAND ${command} -o "${kernel_folder}/try.ptx"
                    RESULT_VARIABLE result OUTPUT_VARIABLE said ERROR_VARIABLE said)
    file(WRITE "${kernel_folder}/try-${compiler}.log" "${said}")
    if(result EQUAL 0)
        set(${out} TRUE PARENT_SCOPE)
    else()
        set(why "${ALLSHARD_KERNEL_${compiler}} cannot compile it (see \
${kernel_folder}/try-${compiler}.log)" PARENT_SCOPE)
    endif()
endfunction()

find_program(ALLSHARD_KERNEL_nvcc nvcc
             HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin PATHS /usr/local/cuda/bin
             DOC "nvcc for the pack kernel")
if(CMAKE_C_COMPILER_ID STREQUAL "Clang")
    set(ALLSHARD_KERNEL_clang "${CMAKE_C_COMPILER}" CACHE FILEPATH "clang for the pack kernel")
else()
    find_program(ALLSHARD_KERNEL_clang DOC "clang for the pack kernel"
                 NAMES clang clang-21 clang-20 clang-19 clang-18 clang-17 clang-16 clang-15
                       clang-14)
endif()
mark_as_advanced(ALLSHARD_KERNEL_nvcc ALLSHARD_KERNEL_clang)

if(NOT ALLSHARD_KERNEL MATCHES "^(auto|nvcc|clang|off)$")
    message(FATAL_ERROR "ALLSHARD_KERNEL is auto, nvcc, clang or off, not ${ALLSHARD_KERNEL}.")
endif()
# nvcc takes seconds: it is tried again only if the question is another.
set(asked "${ALLSHARD_KERNEL} ${ALLSHARD_KERNEL_nvcc} ${ALLSHARD_KERNEL_clang}")
if(NOT asked STREQUAL "${ALLSHARD_KERNEL_ASKED}" OR NOT DEFINED ALLSHARD_KERNEL_BY)
    set(by off)
    set(reasons)
    file(MAKE_DIRECTORY "${kernel_folder}")
    foreach(compiler IN ITEMS nvcc clang)
        if(by STREQUAL "off" AND ALLSHARD_KERNEL MATCHES "^(auto|${compiler})$")
            allshard_kernel_try(${compiler} works)
            if(works)
                set(by ${compiler})
            else()
                list(APPEND reasons "${compiler}: ${why}")
            endif()
        endif()
    endforeach()
    list(JOIN reasons ", " reasons)
    if(by STREQUAL "off" AND ALLSHARD_KERNEL MATCHES "^(nvcc|clang)$")
        message(FATAL_ERROR "The pack kernel cannot be built with "
                            "ALLSHARD_KERNEL=${ALLSHARD_KERNEL}: ${reasons}. Name the compiler with "
                            "-DALLSHARD_KERNEL_${ALLSHARD_KERNEL}=/path, or do without: "
                            "-DALLSHARD_KERNEL=off.")
    endif()
    set(ALLSHARD_KERNEL_ASKED "${asked}" CACHE INTERNAL "what ALLSHARD_KERNEL_BY answers")
    set(ALLSHARD_KERNEL_BY "${by}" CACHE INTERNAL "nvcc, clang or off")
    set(ALLSHARD_KERNEL_WHY "${reasons}" CACHE INTERNAL "why it is off")
endif()

set(allshard_kernel_sources)
if(ALLSHARD_KERNEL_BY STREQUAL "off")
    set(why "the build was told to leave it out (ALLSHARD_KERNEL=off)")
    if(ALLSHARD_KERNEL STREQUAL "auto")
        set(why "no compiler for devices was there when this was built")
    endif()
    set(allshard_kernel_definition "ALLSHARD_NO_KERNEL=\"${why}\"")
    message(STATUS "pack kernel for CUDA devices: none, ${why} ${ALLSHARD_KERNEL_WHY}")
else()
    allshard_kernel_command(${ALLSHARD_KERNEL_BY} command how)
    # The assembler that came with nvcc says which older versions of PTX would do.
    set(ptxas "")
    if(ALLSHARD_KERNEL_BY STREQUAL "nvcc")
        get_filename_component(ptxas "${ALLSHARD_KERNEL_nvcc}" REALPATH)
        get_filename_component(ptxas "${ptxas}" DIRECTORY)
        set(ptxas "${ptxas}/ptxas")
    endif()
    set(embed "${PROJECT_SOURCE_DIR}/cmake/AllshardEmbed.cmake")
    set(made "${kernel_folder}/pack_kernel.c")
    add_custom_command(
        OUTPUT "${made}"
        COMMAND ${command} -o "${kernel_folder}/pack_kernel.ptx"
        COMMAND "${CMAKE_COMMAND}" "-DPTX=${kernel_folder}/pack_kernel.ptx" "-DMADE=${made}"
                "-DHOW=${how}" "-DPTXAS=${ptxas}" -P "${embed}"
        DEPENDS "${kernel_source}" "${embed}" "${PROJECT_SOURCE_DIR}/src/device/pack_body.h"
                "${PROJECT_SOURCE_DIR}/src/tensor/cast_element.h"
                "${PROJECT_SOURCE_DIR}/src/tensor/dtype.h"
        COMMENT "Compiling the pack kernel for CUDA devices"
        VERBATIM)
    set(allshard_kernel_sources "${made}")
    set(allshard_kernel_definition ALLSHARD_HAVE_KERNEL=1)
    message(STATUS "pack kernel for CUDA devices: ${how}")
endif()
