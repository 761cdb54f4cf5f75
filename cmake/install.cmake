# Installation: libraries, headers, program, model, pkg-config files, CMake package, man page, shell completions.
# Everything installed finds its parts relative to itself, so that any prefix, DESTDIR and a later move all work.
include(CMakePackageConfigHelpers)
set(OASIS_CMAKE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/oasis)
file(RELATIVE_PATH OASIS_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
file(RELATIVE_PATH OASIS_LIBRARIES_FROM_PROGRAM /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})

set_target_properties(oasis PROPERTIES EXPORT_NAME oasis)
set(OASIS_INSTALLED oasis)
set(OASIS_PC_FILES oasis)
if(OASIS_MEDIA)
  list(APPEND OASIS_INSTALLED oasis-media oasis-program)
  list(APPEND OASIS_PC_FILES oasis-media)
  set_target_properties(oasis-media PROPERTIES INSTALL_RPATH "$ORIGIN")
  set_target_properties(oasis-program PROPERTIES INSTALL_RPATH "$ORIGIN/${OASIS_LIBRARIES_FROM_PROGRAM}")
endif()
if(TARGET oasis-mpi)
  list(APPEND OASIS_INSTALLED oasis-mpi)
endif()
install(TARGETS ${OASIS_INSTALLED} EXPORT oasisTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/oasis DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES models/oasis-nano.safetensors DESTINATION ${CMAKE_INSTALL_DATADIR}/oasis/models)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

foreach(name ${OASIS_PC_FILES})
  configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

install(EXPORT oasisTargets NAMESPACE oasis:: DESTINATION ${OASIS_CMAKE_FOLDER})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/oasisConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/oasisConfig.cmake ${CMAKE_BINARY_DIR}/oasisConfigVersion.cmake DESTINATION ${OASIS_CMAKE_FOLDER})

# The program prints its own man page and completions, from its option tables.
if(OASIS_MEDIA AND NOT CMAKE_CROSSCOMPILING)
  set(generated ${CMAKE_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${generated})
  add_custom_command(OUTPUT ${generated}/oasis.1 ${generated}/oasis.bash ${generated}/_oasis ${generated}/oasis.fish
    COMMAND oasis-program man > ${generated}/oasis.1
    COMMAND oasis-program completion bash > ${generated}/oasis.bash
    COMMAND oasis-program completion zsh > ${generated}/_oasis
    COMMAND oasis-program completion fish > ${generated}/oasis.fish
    DEPENDS oasis-program COMMENT "Generating man page and completions")
  add_custom_target(generated ALL DEPENDS ${generated}/oasis.1)
  install(FILES ${generated}/oasis.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${generated}/oasis.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME oasis)
  install(FILES ${generated}/_oasis DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${generated}/oasis.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
