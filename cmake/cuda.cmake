# What stands behind src/cuda/cuda.h: a refusal, CUDA, or an emulation for tests.  Kernels (.cu) are compiled by nvcc, or
# as C++ over tests/cuda/emulator.h.
file(GLOB OASIS_CUDA_KERNELS CONFIGURE_DEPENDS src/cuda/*.cu)
set(OASIS_CUDA_LIBRARIES "")
list(APPEND OASIS_SOURCES src/cuda/plans.c src/cuda/name.c) # plain C, tested everywhere
set(OASIS_CUDA_INCLUDES "")
if(OASIS_CUDA STREQUAL "EMULATED")
  enable_language(CXX)
  set(CMAKE_CXX_STANDARD 17)
  file(GLOB OASIS_EMULATED CONFIGURE_DEPENDS tests/cuda/emulated/*.c tests/cuda/emulated/*.cpp)
  set_source_files_properties(${OASIS_CUDA_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++;-O2;-fno-strict-aliasing")
  set_property(SOURCE ${OASIS_CUDA_KERNELS} ${OASIS_EMULATED} APPEND PROPERTY COMPILE_DEFINITIONS OAS_CUDA_EMULATED=1)
  list(APPEND OASIS_SOURCES ${OASIS_CUDA_KERNELS} ${OASIS_EMULATED} src/cuda/tables.c src/cuda/beside.c)
  set(OASIS_CUDA_INCLUDES tests) # cuda/emulator.h
  set(OASIS_CUDA_LIBRARIES stdc++)
elseif(OASIS_CUDA)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    # Code for these, and PTX that newer ones translate.  90a has attention by products of warpgroups.
    set(CMAKE_CUDA_ARCHITECTURES 80 90a)
  endif()
  if("90a" IN_LIST CMAKE_CUDA_ARCHITECTURES)
    set_source_files_properties(src/cuda/attention_sm90.cu src/cuda/attention_backward_sm90.cu
      PROPERTIES COMPILE_DEFINITIONS OAS_CUDA_SM90A=1)
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  find_package(CUDAToolkit REQUIRED)
  file(GLOB OASIS_CUDA_C CONFIGURE_DEPENDS src/cuda/*.c)
  list(FILTER OASIS_CUDA_C EXCLUDE REGEX "/(absent|plans|name)\\.c$")
  # The same bits as the CPU: no product and sum in one rounding.
  set_source_files_properties(src/cuda/degrade.cu src/cuda/degrade_noise.cu PROPERTIES COMPILE_OPTIONS "--fmad=false")
  list(APPEND OASIS_SOURCES ${OASIS_CUDA_KERNELS} ${OASIS_CUDA_C})
  find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
  set(OASIS_CUDA_INCLUDES ${CUDAToolkit_INCLUDE_DIRS})
  set(OASIS_CUDA_LIBRARIES CUDA::cudart_static CUDA::cublasLt ${CUDNN_LIBRARY} ${CMAKE_DL_LIBS} stdc++) # NCCL is loaded
else()
  list(APPEND OASIS_SOURCES src/cuda/absent.c)
endif()
