# Included by CMake when it reads llama.cpp (fetch.py): sources are compiled eight at a time, since most of their time goes into the headers
# that all of them include. mtmd refuses to be joined.
set(CMAKE_UNITY_BUILD ON)
set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)
if(PROJECT_NAME STREQUAL "llama.cpp")
  cmake_language(DEFER CALL set_target_properties mtmd PROPERTIES UNITY_BUILD OFF)
endif()
