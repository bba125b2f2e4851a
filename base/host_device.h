#pragma once

/// FLEX_HOST_DEVICE marks a function that device code may call; nothing where nvcc does not compile.
#ifndef FLEX_HOST_DEVICE
#ifdef __CUDACC__
#define FLEX_HOST_DEVICE __host__ __device__
#else
#define FLEX_HOST_DEVICE
#endif
#endif
