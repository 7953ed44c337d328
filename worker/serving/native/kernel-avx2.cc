// The kernel on vectors of 8 floats.
#define VW 8
#include "buckets.h"
#include "score.h"

const Kernel AVX2_KERNEL = {"avx2", VW, PANEL, scoreRequest, bucketsOfTexts};
