// See kernels.h.
#include "kernels.h"
#include "../../../shared/tensors/native/processor.h"

namespace {

const Kernel* const KERNELS[] = {
#ifdef __x86_64__
    &AVX512_KERNEL, &AVX2_KERNEL,
#endif
    &PORTABLE_KERNEL};

bool runs(const Kernel* kernel) {
#ifdef __x86_64__
  if (kernel == &AVX512_KERNEL) return runsSkylakeAvx512();
  if (kernel == &AVX2_KERNEL) return runsHaswell();
#endif
  return kernel == &PORTABLE_KERNEL;
}

}  // namespace

// Asked once: a virtual machine takes tens of microseconds to say.
const std::vector<const Kernel*>& runningKernels() {
  static const std::vector<const Kernel*> running = [] {
    std::vector<const Kernel*> found;
    for (const Kernel* kernel : KERNELS)
      if (runs(kernel)) found.push_back(kernel);
    return found;
  }();
  return running;
}
