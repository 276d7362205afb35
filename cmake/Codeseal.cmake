# How every target of the project is made. The presets choose the options.

option(CODESEAL_BUILD_TESTS "Build the tests" ON)
option(CODESEAL_FUZZ "Build the fuzz targets with libFuzzer (clang)" OFF)
set(CODESEAL_FUZZ_SECONDS 30 CACHE STRING "How long a test fuzzes each target")
option(CODESEAL_BUILD_ONCE
  "For machines that build once: precompile what nearly every file includes, \
compile the files of a library together; twice as fast, but without ccache" OFF)
set(CODESEAL_SANITIZE "" CACHE STRING "Sanitizers, as given to -fsanitize=")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(CODESEAL_CCACHE ccache)
if(CODESEAL_CCACHE AND NOT CODESEAL_BUILD_ONCE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CODESEAL_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CODESEAL_CCACHE})
endif()

if(CODESEAL_SANITIZE)
  add_compile_options(-fsanitize=${CODESEAL_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${CODESEAL_SANITIZE})
  add_compile_definitions(CODESEAL_SANITIZED)
endif()
if(CODESEAL_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# mold links the test programs several times faster than GNU ld.
find_program(CODESEAL_MOLD mold)
if(CODESEAL_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# Own code only: generated code is compiled without it.
add_library(codeseal_warnings INTERFACE)
target_compile_options(codeseal_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
  -Wswitch-enum -Werror
  # False alarms of g++ 12 once it optimises: moved std::variants, "a" +
  # std::string, comparing vectors. clang and the sanitizers look for such
  # faults, too.
  "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-restrict;-Wno-stringop-overread>"
  # Files that are compiled together: what a .cc defines for itself looks to g++
  # like the content of a header.
  "$<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:${CODESEAL_BUILD_ONCE}>>:-Wno-subobject-linkage>"
  # libstdc++ 12 uses in std::stable_sort what it calls deprecated itself.
  "$<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>")

# How many files of a library are compiled as one. No two of them may use one
# name for different things, even in unnamed namespaces:
# tests/repository/repository_test.py looks.
set(files_at_once 8)

# What libraries and tests precompile. Two, because programs are compiled with
# other options (-fPIE).
if(CODESEAL_BUILD_ONCE)
  add_compile_options(-pthread)  # some have it from what they link
  set(precompiled <functional> <map> <memory> <optional> <span> <string> <vector>
      ${CMAKE_SOURCE_DIR}/codesign/base/error.h)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/precompiled.cc CONTENT "int main() {}\n")
  add_library(codeseal_precompiled STATIC ${CMAKE_BINARY_DIR}/precompiled.cc)
  add_executable(codeseal_precompiled_test ${CMAKE_BINARY_DIR}/precompiled.cc)
  target_precompile_headers(codeseal_precompiled PRIVATE ${precompiled})
  target_precompile_headers(codeseal_precompiled_test PRIVATE
    ${precompiled} <gmock/gmock.h>)
  foreach(target codeseal_precompiled codeseal_precompiled_test)
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${target} PRIVATE codeseal::error_detail absl::statusor)
  endforeach()
  target_link_libraries(codeseal_precompiled_test PRIVATE
    $<TARGET_NAME_IF_EXISTS:GTest::gmock>)
endif()
# precompile(TARGET PRECOMPILED)
function(precompile target precompiled)
  if(CODESEAL_BUILD_ONCE)
    target_precompile_headers(${target} REUSE_FROM ${precompiled})
    # Where an option differs the headers are read as usual.
    set_target_properties(${target} PROPERTIES PCH_WARN_INVALID OFF)
  endif()
endfunction()

# One library per folder: codeseal_library(NAME SRCS ... PUBLIC ... PRIVATE ...)
# makes codeseal_NAME with the alias codeseal::NAME. What a folder may include
# follows from what it links; tests/repository/include_rules_test.py checks the
# rest.
function(codeseal_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;PUBLIC;PRIVATE" ${ARGN})
  add_library(codeseal_${name} STATIC ${ARG_SRCS})
  add_library(codeseal::${name} ALIAS codeseal_${name})
  target_include_directories(codeseal_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(codeseal_${name}
    PUBLIC ${ARG_PUBLIC} PRIVATE codeseal_warnings ${ARG_PRIVATE})
  precompile(codeseal_${name} codeseal_precompiled)
  set_target_properties(codeseal_${name} PROPERTIES
    UNITY_BUILD ${CODESEAL_BUILD_ONCE} UNITY_BUILD_BATCH_SIZE ${files_at_once})
endfunction()

# codeseal_test(NAME [SRCS ...] DEPS ... [LABELS ...] [ARGS ...]): one GoogleTest
# program; without SRCS, every *_test.cc of the current folder, so that a new
# test can't be forgotten. SERIAL: nothing runs beside its tests, which compare
# times. Each test of the program is a ctest test. The target
# tests_LABEL builds the programs of one label.
foreach(label unit golden corpus token integration bench fuzz stress)
  add_custom_target(tests_${label})
endforeach()

function(codeseal_test name)
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "SRCS;DEPS;LABELS;ENV" ${ARGN})
  if(NOT ARG_SRCS)
    file(GLOB ARG_SRCS CONFIGURE_DEPENDS *_test.cc)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE
    codeseal_warnings codeseal_test_support ${ARG_DEPS} GTest::gmock_main)
  precompile(${name} codeseal_precompiled_test)
  if(CODESEAL_SANITIZE MATCHES address)
    list(APPEND ARG_ENV
         LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/support/lsan.supp:print_suppressions=0)
  endif()
  include(GoogleTest)
  # Lists the tests when ctest starts, not when the program is linked: a
  # program that needs a token must not be run by the build.
  # The long form of a test is another test: properties go by name.
  set(prefix "")
  if(stress IN_LIST ARG_LABELS)
    set(prefix stress.)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    TEST_PREFIX "${prefix}"
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
               RUN_SERIAL ${ARG_SERIAL} ENVIRONMENT "${ARG_ENV}")
  foreach(label ${ARG_LABELS})
    add_dependencies(tests_${label} ${name})
  endforeach()
endfunction()

# codeseal_script_test(NAME SCRIPT [LABELS ...]): a Python unittest file, one
# ctest test.
function(codeseal_script_test name script)
  cmake_parse_arguments(ARG "" "" "LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME ${name}
           COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/${script} -v)
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 120)
endfunction()

# codeseal_bench(NAME): the program NAME run as it is, with label bench.
function(codeseal_bench name)
  add_test(NAME bench.${name} COMMAND ${name})
  set_tests_properties(bench.${name} PROPERTIES
    LABELS bench TIMEOUT 600 RUN_SERIAL ON)
  add_dependencies(tests_bench ${name})
endfunction()

# codeseal_fuzzer(NAME DEPS ...): fuzz/NAME/target.cc with fuzz/NAME/seeds/. With
# CODESEAL_FUZZ it is a libFuzzer program, and a test with label fuzz that runs
# it for CODESEAL_FUZZ_SECONDS; no input may make it allocate 64 MiB at once;
# always, its seeds are replayed as an ordinary
# test that fails when no seed is accepted.
function(codeseal_fuzzer name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  set(target_dir ${CMAKE_CURRENT_SOURCE_DIR}/${name})
  if(CODESEAL_FUZZ)
    add_executable(fuzz_${name} ${target_dir}/target.cc)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${name} PRIVATE codeseal_warnings ${ARG_DEPS})
    # What it finds goes to the first folder, never to the seeds.
    set(found ${CMAKE_BINARY_DIR}/found/${name})
    file(MAKE_DIRECTORY ${found})
    add_test(NAME fuzz.${name}
             COMMAND fuzz_${name} -max_total_time=${CODESEAL_FUZZ_SECONDS}
                     -timeout=10 -malloc_limit_mb=64 -rss_limit_mb=1024
                     -artifact_prefix=${found}- ${found}
                     ${target_dir}/seeds)
    math(EXPR timeout "${CODESEAL_FUZZ_SECONDS} + 60")
    set_tests_properties(fuzz.${name} PROPERTIES
      LABELS fuzz TIMEOUT ${timeout})
    add_dependencies(tests_fuzz fuzz_${name})
  endif()
  add_executable(replay_${name} ${target_dir}/target.cc
                 ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.cc)
  target_link_libraries(replay_${name} PRIVATE codeseal_warnings ${ARG_DEPS})
  add_test(NAME fuzz_seeds.${name}
           COMMAND replay_${name} ${target_dir}/seeds)
  set_tests_properties(fuzz_seeds.${name} PROPERTIES LABELS unit TIMEOUT 180)
  add_dependencies(tests_unit replay_${name})
endfunction()
