// The kernel on vectors of 4 floats.
#define VW 4
#include "buckets.h"
#include "score.h"

const Kernel PORTABLE_KERNEL = {"portable", VW, PANEL, scoreRequest, bucketsOfTexts};
