#----------------------------------------------------------------
# Generated CMake target import file for configuration "RelWithDebInfo".
#----------------------------------------------------------------

# Commands may need to know the format version.
set(CMAKE_IMPORT_FILE_VERSION 1)

# Import target "kcache::kcache" for configuration "RelWithDebInfo"
set_property(TARGET kcache::kcache APPEND PROPERTY IMPORTED_CONFIGURATIONS RELWITHDEBINFO)
set_target_properties(kcache::kcache PROPERTIES
  IMPORTED_LOCATION_RELWITHDEBINFO "${_IMPORT_PREFIX}/lib/libkcache.so"
  IMPORTED_SONAME_RELWITHDEBINFO "libkcache.so"
  )

list(APPEND _cmake_import_check_targets kcache::kcache )
list(APPEND _cmake_import_check_files_for_kcache::kcache "${_IMPORT_PREFIX}/lib/libkcache.so" )

# Commands beyond this point should not need to know the version.
set(CMAKE_IMPORT_FILE_VERSION)
