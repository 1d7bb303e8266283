# SPDX-License-Identifier: Apache-2.0
# How every file of allshard is compiled: C11 with GNU extensions, strict
# warnings, hidden symbols, and the sanitizers where they are asked for.

if(ALLSHARD_TSAN)
    set(allshard_sanitize_flags -fsanitize=thread -fno-omit-frame-pointer)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
        # It does not see fences. Those that there are order what processes share, where it sees
        # nothing in any case.
        list(APPEND allshard_sanitize_flags -Wno-tsan)
    endif()
else()
    set(allshard_sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=all
                                -fno-omit-frame-pointer)
endif()

if(ALLSHARD_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang" OR NOT ALLSHARD_SANITIZE)
        message(FATAL_ERROR "ALLSHARD_FUZZ=ON needs clang, which brings libFuzzer, and "
                            "ALLSHARD_SANITIZE=ON: use the preset fuzz.")
    endif()
    list(APPEND allshard_sanitize_flags -fsanitize=fuzzer-no-link)
    list(APPEND allshard_private_definitions ALLSHARD_JSON_WINDOW=64)
endif()

function(allshard_compile target)
    set_target_properties(${target} PROPERTIES C_VISIBILITY_PRESET hidden)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE _FILE_OFFSET_BITS=64
                                                 ${allshard_public_definitions}
                                                 ${allshard_private_definitions})
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow
                                             -Wstrict-prototypes -Wmissing-prototypes)
    if(ALLSHARD_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(ALLSHARD_SANITIZE)
        target_compile_options(${target} PRIVATE ${allshard_sanitize_flags})
        target_link_options(${target} PRIVATE ${allshard_sanitize_flags})
    endif()
endfunction()
