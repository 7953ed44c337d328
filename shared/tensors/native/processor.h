// Which instructions this processor has and the system keeps for each thread. Zig has no
// __builtin_cpu_supports.
#pragma once
#include <stdint.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <initializer_list>

inline bool hasBits(uint32_t word, std::initializer_list<int> bits) {
  for (int bit : bits)
    if ((word >> bit & 1) == 0) return false;
  return true;
}

// The registers that the system keeps: bits of XCR0. 0 where it keeps none.
inline uint32_t keptRegisters() {
  uint32_t a, b, c, d, kept, rest;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !hasBits(c, {27})) return 0;  // OSXSAVE
  __asm__ volatile("xgetbv" : "=a"(kept), "=d"(rest) : "c"(0));
  return kept;
}

// Whether code for `haswell` runs: FMA, MOVBE, AVX, F16C, BMI, AVX2, BMI2.
inline bool runsHaswell() {
  uint32_t a, b, c, d;
  if (!hasBits(keptRegisters(), {1, 2})) return false;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !hasBits(c, {12, 22, 28, 29})) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && hasBits(b, {3, 5, 8});
}
#else
inline bool runsHaswell() { return false; }
#endif
