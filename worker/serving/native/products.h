// Products of matrices of doubles, by which adgroups adapt in the server: target += first x second.
#pragma once
#include "vectors.h"

typedef double vd __attribute__((vector_size(VW * 4)));
typedef double vdu __attribute__((vector_size(VW * 4), aligned(8), may_alias));
enum { DOUBLES = VW / 2 };

// Some rows of the target, and some vectors of each, which the compiler keeps in registers.
ALWAYS_INLINE void addTile(const DenseProduct* p, int row, int column, const int rows, const int vectors) {
  vd sums[4][2];
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v) sums[r][v] = vd{};
  const double* first = p->first + (size_t)row * p->rowStride;
  const double* second = p->second + column;
  for (int k = 0; k < p->inner; ++k, first += p->innerStride, second += p->columns)
    for (int v = 0; v < vectors; ++v) {
      const vd right = *(const vdu*)(second + v * DOUBLES);
      for (int r = 0; r < rows; ++r) sums[r][v] += first[(size_t)r * p->rowStride] * right;
    }
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v) {
      vdu* target = (vdu*)(p->target + (size_t)(row + r) * p->columns + column + v * DOUBLES);
      *target = *target + sums[r][v];
    }
}

ALWAYS_INLINE void addRows(const DenseProduct* p, int row, const int rows) {
  int column = 0;
  for (; column + 2 * DOUBLES <= p->columns; column += 2 * DOUBLES) addTile(p, row, column, rows, 2);
  for (; column + DOUBLES <= p->columns; column += DOUBLES) addTile(p, row, column, rows, 1);
  for (; column < p->columns; ++column)
    for (int r = 0; r < rows; ++r) {
      const double* first = p->first + (size_t)(row + r) * p->rowStride;
      double sum = 0;
      for (int k = 0; k < p->inner; ++k) sum += first[(size_t)k * p->innerStride] * p->second[(size_t)k * p->columns + column];
      p->target[(size_t)(row + r) * p->columns + column] += sum;
    }
}

static void addDenseProduct(const DenseProduct* p) {
  int row = 0;
  for (; row + 4 <= p->rows; row += 4) addRows(p, row, 4);
  for (; row < p->rows; ++row) addRows(p, row, 1);
  cleanUpper();
}
