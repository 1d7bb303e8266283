# SPDX-License-Identifier: Apache-2.0
# cmake -DPTX=FILE -DMADE=FILE -DHOW=TEXT -DPTXAS=FILE -P AllshardEmbed.cmake
# Makes a C file with the PTX in an array.
#
# A driver takes PTX of its own version of the language and of older ones alone, and nvcc writes its
# own version even where an old one has all that is used. So the oldest one is written that nvcc's
# assembler is content with: the result then runs with drivers that are older than the toolkit.
cmake_minimum_required(VERSION 3.20)

file(READ "${PTX}" text)
if(EXISTS "${PTXAS}" AND text MATCHES "\n\\.target sm_([0-9]+)")
    set(arch ${CMAKE_MATCH_1})
    # A hint for the assembler, and the one thing there that old versions lack.
    string(REGEX REPLACE "[ \t]*\\.pragma \"used_bytes_mask [^\n]*\n" "" plain "${text}")
    foreach(version IN ITEMS 4.0 4.1 4.2 5.0 6.0 6.3 7.0 7.8 8.0)
        string(REGEX REPLACE "\n\\.version [0-9.]+" "\n.version ${version}" older "${plain}")
        file(WRITE "${PTX}.older" "${older}")
        execute_process(COMMAND "${PTXAS}" -arch=sm_${arch} "${PTX}.older" -o "${PTX}.cubin"
                        RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
        if(result EQUAL 0)
            set(text "${older}")
            break()
        endif()
    endforeach()
    file(REMOVE "${PTX}.older" "${PTX}.cubin")
endif()
string(REGEX MATCH "\n\\.version ([0-9.]+)" version "${text}")
set(HOW "${HOW}, PTX ${CMAKE_MATCH_1}")

# Lines of 16 bytes, and the 0 that ends it.
file(WRITE "${PTX}" "${text}")
file(READ "${PTX}" bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REPEAT "....." 16 line)
string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
file(WRITE "${MADE}" "/* Made by cmake/AllshardEmbed.cmake. */
extern const char as_kernel_ptx[];
extern const char as_kernel_how[];
const char as_kernel_how[] = \"${HOW}\";
const char as_kernel_ptx[] = {
${bytes}0};
")
