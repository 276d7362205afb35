# The client's integration tests: the real program, run as a user would.

set(client_test_definitions CODESEAL_CLIENT="$<TARGET_FILE:codeseal>")

codeseal_test(client_local_test
  SRCS client_local_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess
  LABELS integration)
codeseal_test(client_kill_test
  SRCS client_kill_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess
  LABELS integration)
codeseal_test(client_token_test
  SRCS client_token_test.cc
  DEPS codeseal::mach_o_builder codeseal_fault_shim codeseal_subprocess codeseal_softhsm
       codeseal::test_pki
  LABELS integration)
codeseal_test(client_server_test
  SRCS client_server_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess codeseal_server_process
       codeseal::test_pki
  LABELS integration)
codeseal_test(client_audit_test
  SRCS client_audit_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess codeseal_server_process
       codeseal::test_pki
  LABELS integration)
codeseal_test(apple_names_test
  SRCS apple_names_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess codeseal_server_process
       codeseal::test_pki
  LABELS integration)
codeseal_test(build_tools_test
  SRCS build_tools_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess codeseal_server_process
       codeseal::test_pki
  LABELS integration)
target_compile_definitions(build_tools_test PRIVATE
  CODESEAL_ELECTRON_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}/electron")
codeseal_test(own_authority_test
  SRCS own_authority_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess codeseal_server_process
       codeseal::test_pki
  LABELS integration)
codeseal_test(client_bundle_test
  SRCS client_bundle_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess codeseal_server_process
       codeseal::test_pki
  LABELS integration TIMEOUT 300)
codeseal_test(bad_bundle_test
  SRCS bad_bundle_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess
  LABELS integration)
codeseal_test(bundle_kill_test
  SRCS bundle_kill_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess
  LABELS integration)
codeseal_test(client_image_test
  SRCS client_image_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess codeseal_server_process
       codeseal_package_builder codeseal::test_pki
  LABELS integration)
target_compile_definitions(client_image_test PRIVATE
  CODESEAL_CHECK_SIGNED="${CMAKE_CURRENT_SOURCE_DIR}/check_signed.py")
codeseal_test(client_timestamp_test
  SRCS client_timestamp_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess codeseal_server_process
       codeseal_timestamp_server codeseal::test_pki
  LABELS integration SERIAL)
# The long form, for hand and night: ctest -L stress.
codeseal_test(bundle_kill_stress
  SRCS bundle_kill_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess
  LABELS stress TIMEOUT 1800 ENV CODESEAL_KILL_COUNT=3000)
codeseal_test(client_kill_stress
  SRCS client_kill_test.cc
  DEPS codeseal::mach_o_builder codeseal_subprocess
  LABELS stress TIMEOUT 1800 ENV CODESEAL_KILL_COUNT=3000)

add_library(codeseal_kill_at MODULE kill_at.c)
set_target_properties(codeseal_kill_at PROPERTIES PREFIX "")
target_link_libraries(codeseal_kill_at PRIVATE ${CMAKE_DL_LIBS})

foreach(test client_local_test client_token_test client_server_test
        client_image_test client_kill_test client_kill_stress own_authority_test
        client_bundle_test bad_bundle_test bundle_kill_test bundle_kill_stress
        apple_names_test build_tools_test client_audit_test client_timestamp_test replicas_test)
  target_compile_definitions(${test} PRIVATE ${client_test_definitions}
    CODESEAL_APPLE_NAMES="${CMAKE_BINARY_DIR}/apple"
    CODESEAL_KILL_AT_LIBRARY="$<TARGET_FILE:codeseal_kill_at>"
    CODESEAL_CHECK_BUNDLE="${CMAKE_CURRENT_SOURCE_DIR}/check_bundle.py")
  add_dependencies(${test} codeseal codeseal_kill_at)
endforeach()
