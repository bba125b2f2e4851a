# What `cmake --install` lays down: the libraries and headers behind find_package(flexmoe), and the program.
include(CMakePackageConfigHelpers)
set(flex_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/flexmoe)

# Headers keep their folder, so that an include reads the same in the tree and outside.
get_property(flex_private_headers GLOBAL PROPERTY FLEX_PRIVATE_HEADERS)
foreach(folder IN LISTS FLEX_FOLDERS)
  if(NOT folder STREQUAL "cli")
    file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${folder}/*.h)
    list(REMOVE_ITEM headers ${flex_private_headers})
    foreach(header IN LISTS headers)
      get_filename_component(header_dir ${header} DIRECTORY)
      install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flexmoe/${header_dir})
    endforeach()
  endif()
endforeach()

install(EXPORT flexmoeTargets NAMESPACE flexmoe:: DESTINATION ${flex_package_dir})
configure_package_config_file(cmake/flexmoeConfig.cmake.in ${PROJECT_BINARY_DIR}/flexmoeConfig.cmake
  INSTALL_DESTINATION ${flex_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/flexmoeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/flexmoeConfig.cmake ${PROJECT_BINARY_DIR}/flexmoeConfigVersion.cmake
  cmake/FindNCCL.cmake cmake/FindOpenCVImgproc.cmake
  DESTINATION ${flex_package_dir})
