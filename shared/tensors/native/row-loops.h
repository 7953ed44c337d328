// The loops of rows.h, for the instructions that the including file is compiled for.
#pragma once
#include <math.h>
#include <string.h>
#include "rows.h"

namespace {

// Rows lie far apart, so each is fetched while earlier ones are computed.
enum { AHEAD = 8 };

template <class Value>
inline void fetch(const Rows* rows, size_t row, const Value* values, int isWritten) {
  if (row + AHEAD >= rows->count) return;
  const Value* next = values + (size_t)rows->ids[row + AHEAD] * rows->width;
  if (isWritten) {
    __builtin_prefetch(next, 1);
    __builtin_prefetch(next + rows->width - 1, 1);
  } else {
    __builtin_prefetch(next);
    __builtin_prefetch(next + rows->width - 1);
  }
}

void gather(const Rows* rows, const float* table, float* target) {
  const size_t width = rows->width;
  for (size_t row = 0; row < rows->count; ++row) {
    fetch(rows, row, table, 0);
    memcpy(target + row * width, table + (size_t)rows->ids[row] * width, width * sizeof(float));
  }
}

void add(const Rows* rows, float* table, const float* addends) {
  const size_t width = rows->width;
  for (size_t row = 0; row < rows->count; ++row) {
    fetch(rows, row, table, 1);
    float* to = table + (size_t)rows->ids[row] * width;
    const float* from = addends + row * width;
    for (size_t k = 0; k < width; ++k) to[k] = (float)((double)to[k] + (double)from[k]);
  }
}

void addScaled(const Rows* rows, float* updates, const float* table, double factor) {
  const size_t width = rows->width;
  for (size_t row = 0; row < rows->count; ++row) {
    fetch(rows, row, table, 0);
    const float* from = table + (size_t)rows->ids[row] * width;
    float* to = updates + row * width;
    for (size_t k = 0; k < width; ++k) to[k] = (float)((double)to[k] + factor * (double)from[k]);
  }
}

void adam(const Rows* rows, float* directions, float* first, float* second, const AdamFactors* factors) {
  const size_t width = rows->width;
  const AdamFactors f = *factors;
  for (size_t row = 0; row < rows->count; ++row) {
    fetch(rows, row, first, 1);
    fetch(rows, row, second, 1);
    float* m = first + (size_t)rows->ids[row] * width;
    float* v = second + (size_t)rows->ids[row] * width;
    float* direction = directions + row * width;
    for (size_t k = 0; k < width; ++k) {
      const double g = direction[k];
      m[k] = (float)(f.firstDecay * (double)m[k] + (1 - f.firstDecay) * g);
      v[k] = (float)(f.secondDecay * (double)v[k] + (1 - f.secondDecay) * g * g);
      direction[k] = (float)((double)m[k] / f.firstCorrection / (sqrt((double)v[k] / f.secondCorrection) + f.epsilon));
    }
  }
}

void addAll(float* sums, const float* addends, size_t count) {
  for (size_t k = 0; k < count; ++k) sums[k] += addends[k];
}

void scaleAll(float* values, size_t count, double factor) {
  for (size_t k = 0; k < count; ++k) values[k] = (float)((double)values[k] * factor);
}

void merge(float* target, const Rows* left, const float* leftRows, const Rows* right, const float* rightRows) {
  const size_t width = left->width;
  size_t i = 0, j = 0;
  for (; i < left->count || j < right->count; target += width) {
    const int takesLeft = j == right->count || (i < left->count && left->ids[i] <= right->ids[j]);
    const int takesRight = i == left->count || (j < right->count && right->ids[j] <= left->ids[i]);
    const float* ofLeft = leftRows + i * width;
    const float* ofRight = rightRows + j * width;
    if (takesLeft && takesRight)
      for (size_t k = 0; k < width; ++k) target[k] = ofLeft[k] + ofRight[k];
    else
      memcpy(target, takesLeft ? ofLeft : ofRight, width * sizeof(float));
    i += takesLeft;
    j += takesRight;
  }
}

const RowLoops ROW_LOOPS = {gather, add, addScaled, adam, addAll, scaleAll, merge};

}  // namespace
