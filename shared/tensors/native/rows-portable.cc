#include "row-loops.h"

const RowLoops PORTABLE_ROWS = ROW_LOOPS;
