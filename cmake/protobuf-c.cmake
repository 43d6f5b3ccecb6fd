# Generates the protobuf-c code of the contract into the build tree; none of it is ever committed.
#
# protoc-c derives C names from the proto package. "parley.policy.v1" would make every name start with
# Parley__Policy__V1__, so the C side compiles copies whose package is plain "policy": Policy__Context instead of
# Parley__Policy__V1__Context. The package is not on the wire of a message; the RPC path is spelt out in control/rpc.c.

find_program(PROTOC_C protoc-c)
if(NOT PROTOC_C)
  message(FATAL_ERROR "protoc-c is missing: apt-get install protobuf-c-compiler")
endif()

set(POLICY_DIR parley/policy/v1)
set(POLICY_COPY ${CMAKE_BINARY_DIR}/proto-c)
set(POLICY_OUT ${CMAKE_BINARY_DIR}/generated)
file(MAKE_DIRECTORY ${POLICY_OUT})

file(GLOB POLICY_PROTOS CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}/proto
     ${CMAKE_SOURCE_DIR}/proto/${POLICY_DIR}/*.proto)

foreach(proto ${POLICY_PROTOS})
  string(REGEX REPLACE "\\.proto$" ".pb-c" stem ${proto})
  list(APPEND POLICY_SOURCES ${POLICY_OUT}/${stem}.c)
  list(APPEND POLICY_HEADERS ${POLICY_OUT}/${stem}.h)
  list(APPEND POLICY_COPIES ${POLICY_COPY}/${proto})
  add_custom_command(
    OUTPUT ${POLICY_COPY}/${proto}
    COMMAND ${CMAKE_COMMAND} -DFROM=${CMAKE_SOURCE_DIR}/proto/${proto} -DTO=${POLICY_COPY}/${proto}
            -P ${CMAKE_SOURCE_DIR}/cmake/c-package.cmake
    DEPENDS ${CMAKE_SOURCE_DIR}/proto/${proto} ${CMAKE_SOURCE_DIR}/cmake/c-package.cmake
    VERBATIM)
endforeach()

add_custom_command(
  OUTPUT ${POLICY_SOURCES} ${POLICY_HEADERS}
  COMMAND ${PROTOC_C} --proto_path=${POLICY_COPY} --c_out=${POLICY_OUT} ${POLICY_PROTOS}
  DEPENDS ${POLICY_COPIES}
  COMMENT "Generating the contract's C code"
  VERBATIM)

add_library(parley_proto STATIC ${POLICY_SOURCES})
target_include_directories(parley_proto SYSTEM PUBLIC ${POLICY_OUT})
target_compile_options(parley_proto PRIVATE -w)
target_link_libraries(parley_proto PUBLIC PkgConfig::PROTOBUF_C)
