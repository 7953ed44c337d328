// Loops over rows of tables and gradients. Each computes what the loop in TypeScript beside its caller
// does, in the same order and with the same roundings, so that both give the same bits: contraction of
// products and sums must be off.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Rows of a table, `[count, width]`, in the order of ids that the caller has compared with the table.
struct Rows {
  const int32_t* ids;
  size_t count;
  size_t width;
};

// direction = m / firstCorrection / (sqrt(v / secondCorrection) + epsilon)
struct AdamFactors {
  double firstDecay, secondDecay, firstCorrection, secondCorrection, epsilon;
};

struct RowLoops {
  void (*gather)(const Rows*, const float* table, float* target);
  void (*add)(const Rows*, float* table, const float* addends);
  void (*addScaled)(const Rows*, float* updates, const float* table, double factor);
  void (*adam)(const Rows*, float* directions, float* first, float* second, const AdamFactors*);
  void (*addAll)(float* sums, const float* addends, size_t count);
  void (*scaleAll)(float* values, size_t count, double factor);
  // Merges rows of two ascending lists of ids; a row of both is their sum.
  void (*merge)(float* target, const Rows* left, const float* leftRows, const Rows* right, const float* rightRows);
};

extern const RowLoops PORTABLE_ROWS;
extern const RowLoops HASWELL_ROWS;
