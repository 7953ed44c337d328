// The kernel on vectors of 16 floats.
#define VW 16
#include "buckets.h"
#include "score.h"

const Kernel AVX512_KERNEL = {"avx512", VW, PANEL, scoreRequest, bucketsOfTexts};
