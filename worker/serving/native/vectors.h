// Vectors of VW floats, and what the compiler's vector types do not offer for them.
#pragma once
#include "model.h"
#ifdef __F16C__
#include <immintrin.h>
#endif

typedef float vf __attribute__((vector_size(VW * 4)));
typedef float vfu __attribute__((vector_size(VW * 4), aligned(4), may_alias));
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define ALWAYS_INLINE_MEMBER inline __attribute__((always_inline))

ALWAYS_INLINE vf load(const float* p) { return *(const vfu*)p; }
ALWAYS_INLINE void store(float* p, vf v) { *(vfu*)p = v; }
ALWAYS_INLINE vf splat(float x) { return vf{} + x; }
ALWAYS_INLINE vf positive(vf x) { return x > 0.0f ? x : vf{}; }
ALWAYS_INLINE float sumOf(vf x) {
#if VW == 8
  __m128 half = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
#else
  return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

// Upper parts of the registers, set to 0: each instruction that was compiled without them waits for the one before it otherwise, in all
// of the process, since it must keep what they hold. The compiler sets them to 0 behind some paths alone.
ALWAYS_INLINE void cleanUpper() {
#if VW == 8
  asm volatile("vzeroupper" ::
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
                     "xmm14", "xmm15");
#endif
}

#if VW == 8
ALWAYS_INLINE vf halves(const uint16_t* p) {
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
}
#endif

// Exponent and fraction moved to their places in a float, whose exponent is then 112 too small.
ALWAYS_INLINE float half(uint16_t bits) {
  const uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13;
  float value;
  __builtin_memcpy(&value, &magnitude, 4);
  value *= 0x1p112f;
  return bits & 0x8000 ? -value : value;
}
#if VW < 8
ALWAYS_INLINE vf halves(const uint16_t* p) {
  vf wide = vf{};
  for (int i = 0; i < VW; ++i) wide[i] = half(p[i]);
  return wide;
}
#endif

ALWAYS_INLINE float dot(const float* a, const float* b, int n) {
  vf sums = vf{};
  int k = 0;
  for (; k + VW <= n; k += VW) sums += load(a + k) * load(b + k);
  float sum = sumOf(sums);
  for (; k < n; ++k) sum += a[k] * b[k];
  return sum;
}
