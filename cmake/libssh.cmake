# Target parley_libssh: a pinned libssh, built as a static library of its own from an untouched source tarball, so that
# the daemon can be relinked against another build of it (LGPL 2.1). Only server/transport/ uses it.
#
#   PARLEY_LIBSSH_VERSION   one of the versions below; empty: the first that can be had
#   PARLEY_LIBSSH_SOURCE    directory or tarball to use instead of fetching (also from the environment)
#   PARLEY_LIBSSH_URL       where to fetch the tarball if the package client has it not; @VERSION@ is replaced
#   PARLEY_CACHE            where tarballs are kept (environment too); default $XDG_CACHE_HOME/parley or ~/.cache/parley

include(ExternalProject)

# Versions that transport/ was tested with, in the order tried: version, sha256 of the tarball, Debian suites that carry it.
set(LIBSSH_PINS
  "0.12.2,49560f677d96e3706a904ac2de1116e25f3680937d51e5c92198fcba4a1c1e9f,forky sid"
  "0.11.5,6898ba9dd836d618b71dc7a4bb786a502c173cef5cafbf20fe5e0567ba4ea30c,trixie")

set(PARLEY_LIBSSH_VERSION "" CACHE STRING "Pinned libssh version to build with; empty: the first available")
set(PARLEY_LIBSSH_SOURCE "$ENV{PARLEY_LIBSSH_SOURCE}" CACHE PATH "libssh source directory or tarball")
set(PARLEY_LIBSSH_URL "$ENV{PARLEY_LIBSSH_URL}" CACHE STRING "Where to fetch libssh from as a last resort")
if(DEFINED ENV{PARLEY_CACHE})
  set(libssh_cache "$ENV{PARLEY_CACHE}")
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(libssh_cache "$ENV{XDG_CACHE_HOME}/parley")
else()
  set(libssh_cache "$ENV{HOME}/.cache/parley")
endif()
set(PARLEY_CACHE "${libssh_cache}" CACHE PATH "Fetched tarballs are kept here")

# ---- which source

set(libssh_versions "")
foreach(pin ${LIBSSH_PINS})
  string(REGEX REPLACE ",.*" "" version "${pin}")
  list(APPEND libssh_versions ${version})
endforeach()
if(PARLEY_LIBSSH_VERSION AND NOT PARLEY_LIBSSH_VERSION IN_LIST libssh_versions)
  message(FATAL_ERROR "PARLEY_LIBSSH_VERSION is ${PARLEY_LIBSSH_VERSION}; pinned are: ${libssh_versions}")
endif()

# Sets `out` to the version that the source tree itself declares.
function(libssh_source_version dir out)
  set(version "unknown")
  if(EXISTS "${dir}/CMakeLists.txt")
    file(STRINGS "${dir}/CMakeLists.txt" line REGEX "^project\\(libssh VERSION ")
    string(REGEX REPLACE ".*VERSION ([0-9.]+).*" "\\1" version "${line}")
  endif()
  set(${out} "${version}" PARENT_SCOPE)
endfunction()

function(libssh_unpack tarball version)
  set(dir "${CMAKE_BINARY_DIR}/libssh/libssh-${version}")
  libssh_source_version("${dir}" unpacked)
  if(NOT unpacked STREQUAL version)
    file(REMOVE_RECURSE "${dir}")
    file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/libssh")
    file(ARCHIVE_EXTRACT INPUT "${tarball}" DESTINATION "${CMAKE_BINARY_DIR}/libssh")
    libssh_source_version("${dir}" unpacked)
    if(NOT unpacked STREQUAL version)
      message(FATAL_ERROR "${tarball} holds libssh ${unpacked}, not ${version}")
    endif()
  endif()
  set(LIBSSH_DIR "${dir}" PARENT_SCOPE)
endfunction()

# From PARLEY_LIBSSH_SOURCE. A tarball must match a pin; a directory has no hash, so only its version is checked.
function(libssh_use_given)
  if(IS_DIRECTORY "${PARLEY_LIBSSH_SOURCE}")
    libssh_source_version("${PARLEY_LIBSSH_SOURCE}" version)
    message(STATUS "libssh: the directory ${PARLEY_LIBSSH_SOURCE} (${version}); its content is not checked by hash")
    if(NOT version IN_LIST libssh_versions)
      message(FATAL_ERROR "${PARLEY_LIBSSH_SOURCE} holds libssh ${version}; tested with: ${libssh_versions}")
    endif()
    set(LIBSSH_DIR "${PARLEY_LIBSSH_SOURCE}" PARENT_SCOPE)
  elseif(EXISTS "${PARLEY_LIBSSH_SOURCE}")
    file(SHA256 "${PARLEY_LIBSSH_SOURCE}" actual)
    set(version "")
    set(expected "")
    foreach(pin ${LIBSSH_PINS})
      string(REPLACE "," ";" pin "${pin}")
      list(GET pin 0 pin_version)
      list(GET pin 1 pin_hash)
      string(APPEND expected "\n  expected sha256 ${pin_hash} (${pin_version})")
      if(pin_hash STREQUAL actual)
        set(version ${pin_version})
      endif()
    endforeach()
    if(NOT version)
      message(FATAL_ERROR "${PARLEY_LIBSSH_SOURCE} is no pinned libssh:${expected}\n  the file has sha256 ${actual}")
    endif()
    libssh_unpack("${PARLEY_LIBSSH_SOURCE}" ${version})
    set(LIBSSH_DIR "${LIBSSH_DIR}" PARENT_SCOPE)
  else()
    message(FATAL_ERROR "PARLEY_LIBSSH_SOURCE is ${PARLEY_LIBSSH_SOURCE}, which does not exist")
  endif()
  if(PARLEY_LIBSSH_VERSION AND NOT version STREQUAL PARLEY_LIBSSH_VERSION)
    message(FATAL_ERROR "PARLEY_LIBSSH_SOURCE holds libssh ${version}, but PARLEY_LIBSSH_VERSION asks for ${PARLEY_LIBSSH_VERSION}")
  endif()
  set(LIBSSH_FOUND_VERSION ${version} PARENT_SCOPE)
endfunction()

# One pin: from the cache, else fetched into it. Leaves LIBSSH_DIR empty if it cannot be had.
function(libssh_use_pin version hash suites)
  set(tarball "${PARLEY_CACHE}/libssh-${version}.tar.xz")
  if(NOT EXISTS "${tarball}")
    file(MAKE_DIRECTORY "${PARLEY_CACHE}")
    string(REPLACE " " ";" suites "${suites}")
    execute_process(
      COMMAND ${CMAKE_COMMAND} -E env "PARLEY_LIBSSH_URL=${PARLEY_LIBSSH_URL}"
              sh "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/fetch-libssh.sh" ${version} ${hash} "${tarball}" ${suites}
      RESULT_VARIABLE status)
    if(status EQUAL 3)
      message(FATAL_ERROR "libssh ${version}: the fetched file has the wrong hash (both are shown above)")
    endif()
  endif()
  if(NOT EXISTS "${tarball}")
    return()
  endif()
  file(SHA256 "${tarball}" actual)
  if(NOT actual STREQUAL hash)
    message(FATAL_ERROR "${tarball} has the wrong hash; remove it to fetch it again:\n"
      "  expected sha256 ${hash}\n  the file has sha256 ${actual}")
  endif()
  libssh_unpack("${tarball}" ${version})
  set(LIBSSH_DIR "${LIBSSH_DIR}" PARENT_SCOPE)
endfunction()

set(LIBSSH_DIR "")
if(PARLEY_LIBSSH_SOURCE)
  libssh_use_given()
else()
  foreach(pin ${LIBSSH_PINS})
    string(REPLACE "," ";" pin "${pin}")
    list(GET pin 0 LIBSSH_FOUND_VERSION)
    list(GET pin 1 hash)
    list(GET pin 2 suites)
    if(NOT LIBSSH_DIR AND (NOT PARLEY_LIBSSH_VERSION OR PARLEY_LIBSSH_VERSION STREQUAL LIBSSH_FOUND_VERSION))
      libssh_use_pin(${LIBSSH_FOUND_VERSION} ${hash} "${suites}")
      if(LIBSSH_DIR)
        break()
      endif()
    endif()
  endforeach()
  if(NOT LIBSSH_DIR)
    message(FATAL_ERROR
      "libssh could not be fetched; what was tried is shown above. Pinned versions: ${libssh_versions}.\n"
      "Either let this machine reach its Debian mirror, or put the tarball into ${PARLEY_CACHE} as "
      "libssh-VERSION.tar.xz, or name it (or an unpacked directory) with -DPARLEY_LIBSSH_SOURCE=PATH, or give "
      "-DPARLEY_LIBSSH_URL=https://... .")
  endif()
endif()
message(STATUS "libssh: ${LIBSSH_FOUND_VERSION} from ${LIBSSH_DIR}")

# ---- build it, apart from ours: other flags, other cache, other warnings

set(libssh_flags "-w -fno-strict-aliasing")
if(PARLEY_SANITIZE)
  string(APPEND libssh_flags " -fsanitize=${PARLEY_SANITIZE} -fno-omit-frame-pointer")
endif()
if(PARLEY_FUZZ)
  string(APPEND libssh_flags " -fsanitize=fuzzer-no-link")
endif()

set(libssh_build "${CMAKE_BINARY_DIR}/libssh/build-${LIBSSH_FOUND_VERSION}")
set(libssh_archive "${libssh_build}/src/libssh.a")
set(libssh_launcher "")
if(CMAKE_C_COMPILER_LAUNCHER)
  set(libssh_launcher "-DCMAKE_C_COMPILER_LAUNCHER=${CMAKE_C_COMPILER_LAUNCHER}")
endif()

ExternalProject_Add(libssh_build
  SOURCE_DIR "${LIBSSH_DIR}"
  BINARY_DIR "${libssh_build}"
  PREFIX "${CMAKE_BINARY_DIR}/libssh/work"
  DOWNLOAD_COMMAND ""
  UPDATE_COMMAND ""
  INSTALL_COMMAND ""
  CMAKE_ARGS
    -DCMAKE_BUILD_TYPE=RelWithDebInfo
    -DCMAKE_C_COMPILER=${CMAKE_C_COMPILER}
    -DCMAKE_C_FLAGS=${libssh_flags}
    -DCMAKE_POSITION_INDEPENDENT_CODE=ON
    ${libssh_launcher}
    -DBUILD_SHARED_LIBS=OFF
    -DWITH_EXAMPLES=OFF -DWITH_SFTP=OFF -DWITH_PCAP=OFF -DWITH_FIDO2=OFF -DWITH_EXEC=OFF
    -DWITH_SYMBOL_VERSIONING=OFF -DWITH_NACL=OFF -DWITH_DEBUG_CALLTRACE=OFF
    -DWITH_GSSAPI=ON -DWITH_ZLIB=ON -DWITH_SERVER=ON -DWITH_GEX=ON
  BUILD_BYPRODUCTS "${libssh_archive}"
  LOG_CONFIGURE ON
  LOG_BUILD ON
  LOG_OUTPUT_ON_FAILURE ON)

# ---- what transport/ links with

add_library(parley_libssh_archive STATIC IMPORTED GLOBAL)
set_target_properties(parley_libssh_archive PROPERTIES IMPORTED_LOCATION "${libssh_archive}")
add_dependencies(parley_libssh_archive libssh_build)

add_library(parley_libssh INTERFACE)
add_dependencies(parley_libssh libssh_build)
# The build's own config.h comes first: the layout of session and crypto structures depends on it.
target_include_directories(parley_libssh SYSTEM INTERFACE
  "${libssh_build}" "${libssh_build}/include" "${LIBSSH_DIR}/include")
target_compile_definitions(parley_libssh INTERFACE LIBSSH_STATIC)
target_link_libraries(parley_libssh INTERFACE
  parley_libssh_archive PkgConfig::CRYPTO PkgConfig::GSSAPI PkgConfig::ZLIB)
# What libssh writes goes to transport/output.c; -u keeps that file in the link whatever the order of the archives.
target_link_options(parley_libssh INTERFACE
  "LINKER:--wrap=ssh_socket_write" "LINKER:-u,__wrap_ssh_socket_write")
# And what it asks the Kerberos library is answered by transport/gss_kex.c, where a helper has asked before.
target_link_options(parley_libssh INTERFACE
  "LINKER:--wrap=gss_import_name" "LINKER:--wrap=gss_acquire_cred" "LINKER:--wrap=gss_accept_sec_context"
  "LINKER:-u,__wrap_gss_accept_sec_context")
