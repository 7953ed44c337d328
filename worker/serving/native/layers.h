// Layers of shared weights over a tile of rows, and of personal weights over one row.
#pragma once
#include "vectors.h"

// Blocks and table rows of the tile to come, fetched a few rows at a time between products: all at once
// they would wait for each other.
struct Ahead {
  const Model* m;
  const Request* request;
  int next, end;  // Candidates.
};

ALWAYS_INLINE const uint8_t* blockAt(const Model* m, int32_t block) {
  const size_t inShard = (size_t)block & (((size_t)1 << m->shardShift) - 1);
  return m->shards[block >> m->shardShift] + inShard * (size_t)m->strideByteCount;
}

static void fetchAhead(Ahead* ahead, int rows) {
  const Model* m = ahead->m;
  const Request* request = ahead->request;
  for (; rows > 0 && ahead->next < ahead->end; --rows, ++ahead->next) {
    const size_t candidate = ahead->next;
    const uint8_t* block = blockAt(m, request->blocks[candidate]);
    for (int at = 0; at < m->strideByteCount; at += 64) fetch(block + at);
    for (int f = 0; f < m->fieldCount; ++f) {
      const Field* field = m->fields + f;
      if (field->source != FROM_IDS || field->isContext) continue;
      const int32_t id = request->candidateIds[candidate * m->candidateIdCount + field->firstPlace];
      const float* row = field->values + (size_t)id * m->rowWidth;
      fetch(row);
      fetch(row + m->rowWidth - 1);
    }
  }
}

#if VW == 8
enum { ROWS = 6, COLUMNS = 2 };  // 12 sums, 2 weights and an input in 16 registers.
#else
enum { ROWS = 2, COLUMNS = 4 };
#endif
enum { PANEL = COLUMNS * VW };

// out[R][C * VW] = start + x[R][k] * panel[k][C * VW]
template <int R, int C>
ALWAYS_INLINE void panelProduct(const float* x, int xs, int k, const float* panel, const float* start,
                                float* out, int os, bool hasRelu) {
  vf sums[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sums[r][c] = load(start + c * VW);
  for (int i = 0; i < k; ++i) {
    vf w[C];
    for (int c = 0; c < C; ++c) w[c] = load(panel + (size_t)i * C * VW + c * VW);
    for (int r = 0; r < R; ++r) {
      const vf a = splat(x[r * xs + i]);
      for (int c = 0; c < C; ++c) sums[r][c] += a * w[c];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) store(out + r * os + c * VW, hasRelu ? positive(sums[r][c]) : sums[r][c]);
}

template <int C>
static void panelRows(Ahead* ahead, const float* x, int xs, int k, const float* panel, const float* start, float* out,
                      int os, int rows, bool hasRelu) {
  int r = 0;
  for (; r + ROWS <= rows; r += ROWS) {
    fetchAhead(ahead, ROWS / 2);
    panelProduct<ROWS, C>(x + r * xs, xs, k, panel, start, out + r * os, os, hasRelu);
  }
  for (; r < rows; ++r) panelProduct<1, C>(x + r * xs, xs, k, panel, start, out + r * os, os, hasRelu);
}

// A layer of shared weights. Its first `skipped` inputs are in `start` already; x begins behind them.
static void sharedLayer(const Layer* layer, Ahead* ahead, int skipped, const float* x, int xs, const float* start,
                        float* out, int os, int rows, bool hasRelu) {
  const int k = layer->inCount - skipped;
  for (int column = 0; column < layer->outPadded; column += PANEL) {
    const int rest = layer->outPadded - column;
    const int width = rest < PANEL ? rest : PANEL;
    const float* panel = layer->packed + (size_t)column * layer->inCount + (size_t)skipped * width;
    const float* from = start + column;
    float* to = out + column;
    switch (width / VW) {
      case 1: panelRows<1>(ahead, x, xs, k, panel, from, to, os, rows, hasRelu); break;
      case 2: panelRows<2>(ahead, x, xs, k, panel, from, to, os, rows, hasRelu); break;
#if VW != 8
      case 3: panelRows<3>(ahead, x, xs, k, panel, from, to, os, rows, hasRelu); break;
      case 4: panelRows<4>(ahead, x, xs, k, panel, from, to, os, rows, hasRelu); break;
#endif
    }
  }
}

// The part's values as stored: elements of its encoding.
template <int E>
ALWAYS_INLINE vf stored(const uint8_t* values, int at) {
  return E == FLOAT32 ? load((const float*)values + at) : halves((const uint16_t*)values + at);
}
template <int E>
ALWAYS_INLINE float storedOne(const uint8_t* values, int at) {
  return E == FLOAT32 ? ((const float*)values)[at] : half(((const uint16_t*)values)[at]);
}

// out[C * VW] += sum over the listed inputs of input * weights[k][width], in U chains of sums.
template <int E, int C, int U>
ALWAYS_INLINE void listedProduct(const float* inputs, const int32_t* places, int count,
                                 const uint8_t* weights, int width, int column, float* out) {
  vf sums[U][C];
  for (int u = 0; u < U; ++u)
    for (int c = 0; c < C; ++c) sums[u][c] = vf{};
  int i = 0;
  for (; i + U <= count; i += U)
    for (int u = 0; u < U; ++u) {
      const vf a = splat(inputs[i + u]);
      const int first = places[i + u] * width + column;
      for (int c = 0; c < C; ++c) sums[u][c] += a * stored<E>(weights, first + c * VW);
    }
  for (; i < count; ++i) {
    const vf a = splat(inputs[i]);
    const int first = places[i] * width + column;
    for (int c = 0; c < C; ++c) sums[0][c] += a * stored<E>(weights, first + c * VW);
  }
  for (int c = 0; c < C; ++c) {
    vf sum = sums[0][c];
    for (int u = 1; u < U; ++u) sum += sums[u][c];
    store(out + c * VW, load(out + c * VW) + sum);
  }
}

// out[width] += inputs * weights of one block. Whole vectors of columns, then the columns that are left:
// nothing behind the weights is read.
template <int E>
static void ownProduct(const float* inputs, const int32_t* places, int count, const uint8_t* weights,
                       int width, float* out) {
  int column = 0;
  for (; column + 4 * VW <= width; column += 4 * VW)
    listedProduct<E, 4, 2>(inputs, places, count, weights, width, column, out + column);
  if (column + 2 * VW <= width) {
    listedProduct<E, 2, 4>(inputs, places, count, weights, width, column, out + column);
    column += 2 * VW;
  }
  for (; column + VW <= width; column += VW)
    listedProduct<E, 1, 4>(inputs, places, count, weights, width, column, out + column);
  for (; column < width; ++column)
    for (int i = 0; i < count; ++i)
      out[column] += inputs[i] * storedOne<E>(weights, places[i] * width + column);
}

// The values of a part as floats; those of float32 where they lie.
static const float* valuesOf(const Part* part, const uint8_t* block, float* room) {
  const uint8_t* values = block + part->byteOffset;
  if (part->encoding == FLOAT32) return (const float*)values;
  const int n = part->count;
  int i = 0;
  for (; i + VW <= n; i += VW) store(room + i, halves((const uint16_t*)values + i));
  for (; i < n; ++i) room[i] = half(((const uint16_t*)values)[i]);
  return room;
}

// One value of a part.
static float valueOf(const Part* part, const uint8_t* block, int at) {
  const uint8_t* values = block + part->byteOffset;
  return part->encoding == FLOAT32 ? ((const float*)values)[at] : half(((const uint16_t*)values)[at]);
}

// The scalar product of x with n values of a part from `first` on.
static float ownDot(const Part* part, const uint8_t* block, int first, const float* x, int n) {
  const uint8_t* values = block + part->byteOffset;
  if (part->encoding == FLOAT32) return dot(x, (const float*)values + first, n);
  vf sums = vf{};
  float sum = 0;
  int k = 0;
  for (; k + VW <= n; k += VW) sums += load(x + k) * halves((const uint16_t*)values + first + k);
  for (; k < n; ++k) sum += x[k] * half(((const uint16_t*)values)[first + k]);
  return sum + sumOf(sums);
}

// A layer of one block over one row.
static void personalLayer(const Model* m, const Layer* layer, const uint8_t* block, const float* x,
                          float* out, float* inputs, int32_t* places, float* room) {
  const Part* weights = m->parts + layer->weightPart;
  const int width = layer->outCount;
  const float* bias = valuesOf(m->parts + layer->biasPart, block, room);
  for (int j = 0; j < width; ++j) out[j] = bias[j];
  // Half of the outputs of a layer with ReLU are 0.
  int count = 0;
  for (int k = 0; k < layer->inCount; ++k) {
    inputs[count] = x[k];
    places[count] = k;
    count += x[k] != 0;
  }
  const uint8_t* values = block + weights->byteOffset;
  if (weights->encoding == FLOAT32) ownProduct<FLOAT32>(inputs, places, count, values, width, out);
  else ownProduct<FLOAT16>(inputs, places, count, values, width, out);
  if (layer->hasRelu)
    for (int j = 0; j < width; ++j) out[j] = out[j] > 0 ? out[j] : 0;
}
