#include "row-loops.h"

const RowLoops HASWELL_ROWS = ROW_LOOPS;
