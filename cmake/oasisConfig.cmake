# find_package(oasis): gives oasis::oasis, and oasis::oasis-media where the media library was built.
include(${CMAKE_CURRENT_LIST_DIR}/oasisTargets.cmake)
