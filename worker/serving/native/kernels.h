// The kernels of the instruction sets that this machine has.
#pragma once
#include <vector>
#include "model.h"

// The kernels that run here, the fastest first.
const std::vector<const Kernel*>& runningKernels();
