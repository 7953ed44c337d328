// A request scored: what the context decides once, then the candidates in tiles of rows.
#pragma once
#include "layers.h"

// The parts that all candidates share, and the state of the tile under way.
struct Pass {
  const Model* m;
  const Request* request;
  const float* vectors[FIELDS_MAX];
  const uint8_t* block;
  float* contextVectors;  // [fieldCount, width]
  float* ownVectors;      // [fieldCount, width + 1]
  float* sum;             // Of the factorised context fields, and of all context fields.
  float* sumAll;
  float* rowSum;
  float* rowSumAll;
  float pairs, linear;    // Of the context fields.
  float* start;       // The first layer, or first cross layer, of context columns.
  float* crossStart;
  float* x;           // [TILE_ROWS, inputStride]
  float* crossed;     // [TILE_ROWS, inputStride], and two more
  float* crossedNext;
  float* compressed;
  float* hidden[2];   // [TILE_ROWS, scratchStride]
  float* outputProducts;  // [TILE_ROWS, scratchStride]
  float* inputs;
  int32_t* places;
  float* room;
  float logits[TILE_ROWS];
  float variances[TILE_ROWS];
  Ahead ahead;
};

// Where the block of a candidate's crowd begins.
ALWAYS_INLINE size_t crowdAt(const Pass* pass, int candidate) {
  const Model* m = pass->m;
  const int32_t* ids = m->crowdIsContext ? pass->request->contextIds
                                         : pass->request->candidateIds + (size_t)candidate * m->candidateIdCount;
  return (size_t)ids[m->crowdPlace] * m->slopeCount;
}

static int isValid(const Model* m, const Request* request) {
  for (int i = 0; i < request->count; ++i)
    if ((uint32_t)request->blocks[i] >= (uint64_t)m->blockCount) return NO_SUCH_BLOCK;
  for (int f = 0; f < m->fieldCount; ++f) {
    const Field* field = m->fields + f;
    if (field->source > FROM_BAG) continue;
    const int rows = field->isContext ? 1 : request->count;
    const int stride = field->isContext ? 0 : m->candidateIdCount;
    const int32_t* ids = (field->isContext ? request->contextIds : request->candidateIds) + field->firstPlace;
    // -1 is an empty place of a bag. A negative id becomes a large one.
    const uint32_t shift = field->source == FROM_BAG;
    const uint32_t end = (uint32_t)field->rowCount + shift;
    uint32_t isWrong = 0;
    for (int r = 0; r < rows; ++r)
      for (int k = 0; k < field->placeCount; ++k) isWrong |= (uint32_t)ids[(size_t)r * stride + k] + shift >= end;
    if (isWrong) return NO_SUCH_ID;
  }
  return SCORED;
}

// The mean of a bag's rows; with the linear weight behind the vector.
static const float* bagVector(const Model* m, const Field* field, const int32_t* ids, float* room) {
  const int width = m->rowWidth;
  int count = 0;
  for (int k = 0; k < width; ++k) room[k] = 0;
  for (int i = 0; i < field->placeCount; ++i) {
    int64_t id = ids[i];
    if (id < 0 && !m->isPadded) continue;
    if (id < 0) id = field->rowCount - 1;
    const float* row = field->values + (size_t)id * width;
    for (int k = 0; k < width; ++k) room[k] += row[k];
    ++count;
  }
  if (count > 1) {
    const float share = 1.0f / count;
    for (int k = 0; k < width; ++k) room[k] *= share;
  }
  return room;
}

// The vector of a field, and its linear term added.
ALWAYS_INLINE const float* fieldVector(Pass* pass, int f, int candidate, float* linear) {
  const Model* m = pass->m;
  const Request* request = pass->request;
  const Field* field = m->fields + f;
  float* room = pass->ownVectors + (size_t)f * (m->width + 1);
  if (field->source <= FROM_BAG) {
    const int32_t* ids = field->isContext ? request->contextIds + field->firstPlace
                                          : request->candidateIds + (size_t)candidate * m->candidateIdCount + field->firstPlace;
    const float* row = field->source == FROM_IDS ? field->values + (size_t)ids[0] * m->rowWidth
                                                 : bagVector(m, field, ids, room);
    if (m->hasLinear) *linear += row[m->width];
    return row;
  }
  if (field->source == FROM_NUMBER) {
    const float value = field->readsContext ? request->contextNumbers[field->firstPlace]
                                            : request->candidateNumbers[(size_t)candidate * m->candidateNumberCount + field->firstPlace];
    const int first = field->number * m->width;
    for (int k = 0; k < m->width; ++k)
      room[k] = value * (field->factorsPart < 0 ? field->values[k] : valueOf(m->parts + field->factorsPart, pass->block, first + k));
    *linear += value * (field->linearPart < 0 ? field->linear : valueOf(m->parts + field->linearPart, pass->block, field->number));
    return room;
  }
  const float* own = valuesOf(m->parts + field->part, pass->block, room);
  if (field->hasLinear) *linear += own[m->width];
  return own;
}

static void startLayer(const Model* m, const Layer* layer, const float* x, float* start) {
  for (int j = 0; j < layer->outPadded; ++j) start[j] = layer->bias[j];
  if (m->contextColumns == 0) return;
  Layer part = *layer;
  // Only the first rows of each panel are read.
  for (int column = 0; column < layer->outPadded; column += PANEL) {
    const int rest = layer->outPadded - column;
    const int width = rest < PANEL ? rest : PANEL;
    const float* panel = part.packed + (size_t)column * layer->inCount;
    for (int k = 0; k < m->contextColumns; ++k)
      for (int j = 0; j < width; ++j) start[column + j] += x[k] * panel[(size_t)k * width + j];
  }
}

static void contextPart(Pass* pass) {
  const Model* m = pass->m;
  const int width = m->width;
  pass->linear = pass->pairs = 0;
  for (int k = 0; k < width; ++k) pass->sum[k] = pass->sumAll[k] = 0;
  for (int f = 0; f < m->fieldCount; ++f) {
    const Field* field = m->fields + f;
    if (!field->isContext) continue;
    float* vector = pass->contextVectors + (size_t)f * width;
    const float* found = fieldVector(pass, f, 0, &pass->linear);
    pass->vectors[f] = vector;
    for (int k = 0; k < width; ++k) {
      const float value = found[k];
      vector[k] = value;
      pass->sumAll[k] += value;
      if (field->isFactorised) {
        pass->pairs += value * pass->sum[k];
        pass->sum[k] += value;
      }
      if (field->column < 0) continue;
      const int rows = m->needsContextColumns ? TILE_ROWS : 1;
      for (int r = 0; r < rows; ++r) pass->x[(size_t)r * m->inputStride + field->column + k] = value;
    }
  }
  if (m->crossLayerCount > 0) startLayer(m, m->cross, pass->x, pass->crossStart);
  if (m->hasTower && !m->towerReadsCrossed && m->hiddenCount > 0 && m->hidden[0].weightPart < 0)
    startLayer(m, m->hidden, pass->x, pass->start);
}

// Products of the row's field vectors, in the order of the weights that read them.
static void rowProducts(const Pass* pass, const Products* products, float* out) {
  const int width = pass->m->width;
  for (int p = 0; p < products->pairCount; ++p)
    *out++ = dot(pass->vectors[products->pairs[2 * p]], pass->vectors[products->pairs[2 * p + 1]], width);
  for (int p = 0; p < products->byFieldCount; ++p) {
    const float* vector = pass->vectors[products->byField[p]];
    *out++ = dot(vector, pass->rowSumAll, width) - dot(vector, vector, width);
  }
  if (products->hasOuter)
    for (int i = 0; i < width; ++i)
      for (int j = 0; j < width; ++j) *out++ = pass->rowSum[i] * pass->rowSum[j];
}

// Sums over the fields of a row: in registers where the width is a known number of vectors. Each field is
// multiplied by the sum of those before it: half of the square of the sum less the squares would be the
// same, but for the digits that the difference loses.
template <int VECTORS>
struct RowSums {
  vf sum[VECTORS], products;
  ALWAYS_INLINE_MEMBER void begin(const Pass* pass) {
    for (int v = 0; v < VECTORS; ++v) sum[v] = load(pass->sum + v * VW);
    products = vf{};
  }
  ALWAYS_INLINE_MEMBER void add(const Pass*, const Field* field, const float* vector, float* x) {
    for (int v = 0; v < VECTORS; ++v) {
      const vf value = load(vector + v * VW);
      if (field->column >= 0) store(x + field->column + v * VW, value);
      if (!field->isFactorised) continue;
      products += value * sum[v];
      sum[v] += value;
    }
  }
  ALWAYS_INLINE_MEMBER float pairs(const Pass* pass) {
    for (int v = 0; v < VECTORS; ++v) store(pass->rowSum + v * VW, sum[v]);
    return sumOf(products) + pass->pairs;
  }
};
template <>
struct RowSums<0> {
  float products;
  ALWAYS_INLINE_MEMBER void begin(const Pass* pass) {
    for (int k = 0; k < pass->m->width; ++k) pass->rowSum[k] = pass->sum[k];
    products = 0;
  }
  ALWAYS_INLINE_MEMBER void add(const Pass* pass, const Field* field, const float* vector, float* x) {
    const int width = pass->m->width;
    if (field->column >= 0) for (int k = 0; k < width; ++k) x[field->column + k] = vector[k];
    if (!field->isFactorised) return;
    for (int k = 0; k < width; ++k) {
      products += vector[k] * pass->rowSum[k];
      pass->rowSum[k] += vector[k];
    }
  }
  ALWAYS_INLINE_MEMBER float pairs(const Pass* pass) {
    return products + pass->pairs;
  }
};

// One candidate's input row, and every term of its logit that needs no layer.
template <int VECTORS>
ALWAYS_INLINE void gatherRow(Pass* pass, int row, int candidate) {
  const Model* m = pass->m;
  const int width = m->width;
  pass->block = blockAt(m, pass->request->blocks[candidate]);
  float linear = pass->linear;
  float* x = pass->x + (size_t)row * m->inputStride;
  float* sumAll = pass->rowSumAll;
  RowSums<VECTORS> sums;
  sums.begin(pass);
  const bool hasSumAll = m->inputProducts.byFieldCount + m->outputProducts.byFieldCount > 0;
  if (hasSumAll) for (int k = 0; k < width; ++k) sumAll[k] = pass->sumAll[k];
  for (int f = 0; f < m->fieldCount; ++f) {
    const Field* field = m->fields + f;
    if (field->isContext) continue;
    const float* vector = fieldVector(pass, f, candidate, &linear);
    pass->vectors[f] = vector;
    sums.add(pass, field, vector, x);
    if (hasSumAll) for (int k = 0; k < width; ++k) sumAll[k] += vector[k];
  }
  float logit = linear;
  const float pairs = sums.pairs(pass);
  if (m->hasPairTerm) logit += pairs;
  logit += m->biasPart < 0 ? m->bias : *(const float*)(pass->block + m->parts[m->biasPart].byteOffset);
  float variance = m->variancesPart >= 0 && m->biasPart >= 0 ? valueOf(m->parts + m->variancesPart, pass->block, 0) : 0;
  if (m->crowdModes && m->biasPart >= 0) {
    const size_t crowd = crowdAt(pass, candidate);
    logit += m->crowdModes[crowd];
    variance += m->crowdVariances[crowd];
  }
  pass->logits[row] = logit;
  pass->variances[row] = variance;
  if (m->inputProducts.count > 0) rowProducts(pass, &m->inputProducts, x + m->inputColumns);
  if (m->outputProducts.count > 0)
    rowProducts(pass, &m->outputProducts, pass->outputProducts + (size_t)row * m->scratchStride);
}

static void gatherRows(Pass* pass, int first, int rows) {
  switch (pass->m->width % VW == 0 ? pass->m->width / VW : 0) {
    case 1: for (int r = 0; r < rows; ++r) gatherRow<1>(pass, r, first + r); break;
    case 2: for (int r = 0; r < rows; ++r) gatherRow<2>(pass, r, first + r); break;
    case 4: for (int r = 0; r < rows; ++r) gatherRow<4>(pass, r, first + r); break;
    default: for (int r = 0; r < rows; ++r) gatherRow<0>(pass, r, first + r);
  }
}

// x_{l+1} = x_0 * (x_l W_l + b_l) + x_l; returns the last one.
static const float* crossLayers(Pass* pass, int rows) {
  const Model* m = pass->m;
  const int stride = m->inputStride;
  const int columns = m->inputColumns;
  const float* from = pass->x;
  float* to = pass->crossed;
  const Layer* layer = m->cross;
  for (int l = 0; l < m->crossLayerCount; ++l) {
    const int skipped = l == 0 ? m->contextColumns : 0;
    const float* start = l == 0 ? pass->crossStart : layer->bias;
    if (m->crossRank == 0) {
      sharedLayer(layer++, &pass->ahead, skipped, from + skipped, stride, start, to, stride, rows, false);
    } else {
      sharedLayer(layer++, &pass->ahead, skipped, from + skipped, stride, start, pass->compressed, m->scratchStride, rows, false);
      sharedLayer(layer, &pass->ahead, 0, pass->compressed, m->scratchStride, layer->bias, to, stride, rows, false);
      ++layer;
    }
    for (int r = 0; r < rows; ++r) {
      const size_t at = (size_t)r * stride;
      for (int k = 0; k < columns; ++k) to[at + k] = pass->x[at + k] * to[at + k] + from[at + k];
    }
    from = to;
    to = to == pass->crossed ? pass->crossedNext : pass->crossed;
  }
  return from;
}

struct Rows {
  const float* values;
  int stride, count;
};

static Rows towerRows(Pass* pass, const float* crossed, int first, int rows) {
  const Model* m = pass->m;
  const int inputCount = m->inputColumns + m->inputProducts.count;
  Rows input = {m->towerReadsCrossed ? crossed : pass->x, m->inputStride,
                m->towerReadsCrossed ? m->inputColumns : inputCount};
  for (int l = 0; l < m->hiddenCount; ++l) {
    const Layer* layer = m->hidden + l;
    float* out = pass->hidden[l & 1];
    const bool isPersonal = layer->weightPart >= 0;
    const bool isStarted = l == 0 && !m->towerReadsCrossed && !isPersonal;
    const int skipped = isStarted ? m->contextColumns : 0;
    if (!isPersonal)
      sharedLayer(layer, &pass->ahead, skipped, input.values + skipped, input.stride, isStarted ? pass->start : layer->bias,
                  out, m->scratchStride, rows, true);
    for (int r = 0; isPersonal && r < rows; ++r) {
      fetchAhead(&pass->ahead, 1);
      personalLayer(m, layer, blockAt(m, pass->request->blocks[first + r]),
                    input.values + (size_t)r * input.stride, out + (size_t)r * m->scratchStride,
                    pass->inputs, pass->places, pass->room);
    }
    input = {out, m->scratchStride, layer->outCount};
  }
  return input;
}

// The logit of the expected probability of a click, where a logit is normal: shared/methods/inner-loop/moderated-logit.ts states
// the nodes and weights. `clicks` is divided by the odds of the mean, whose sign is that of the result.
static float moderated(float logit, float variance) {
  static const float nodes[] = {1.1544054f, 2.3667594f, 3.7504397f}, weights[] = {.24012318f, .030757124f, .00054826886f};
  const float mean = -__builtin_fabsf(logit), inner = mean < -30 ? -30 : mean;
  const float deviation = __builtin_sqrtf(variance), odds = __builtin_expf(inner);
  float clicks = .45714286f / (1 + odds), others = clicks;
  for (int k = 0; k < 3; ++k) {
    const float factor = __builtin_expf(deviation * nodes[k]), inverse = 1 / factor;
    clicks += weights[k] * (1 / (inverse + odds) + 1 / (factor + odds));
    others += weights[k] * (1 / (1 + odds * factor) + 1 / (1 + odds * inverse));
  }
  return __builtin_copysignf(mean + __builtin_logf(clicks / others), logit);
}

// Adapting reads the logit of the mean.
static void moderate(Pass* pass, int row, int candidate) {
  const float variance = pass->variances[row];
  if (pass->m->variancesPart >= 0 && !pass->request->slopes) pass->logits[row] = moderated(pass->logits[row], variance);
  if (pass->request->variances) pass->request->variances[candidate] = variance;
}

// What the block of a crowd adds to a logit and its variance by its output weights; `inputs` has the squares of the values.
static void addCrowd(Pass* pass, int row, size_t weights, const float* values, int n, float* term) {
  const Model* m = pass->m;
  *term += dot(values, m->crowdModes + weights, n);
  pass->variances[row] += dot(pass->inputs, m->crowdVariances + weights, n);
}

// What the output weights of a block add to the variance of a logit that reads the values.
static float ownVariance(Pass* pass, const uint8_t* block, int weight, const float* values, int n) {
  const Model* m = pass->m;
  for (int k = 0; k < n; ++k) pass->inputs[k] = values[k] * values[k];
  return ownDot(m->parts + m->variancesPart, block, weight + (m->biasPart >= 0), pass->inputs, n);
}

// The slopes of a row from a personal weight on.
static void writeSlopes(const Pass* pass, int candidate, int weight, const float* values, int n) {
  float* slopes = pass->request->slopes + (size_t)candidate * pass->m->slopeCount + (pass->m->biasPart >= 0) + weight;
  for (int k = 0; k < n; ++k) slopes[k] = values[k];
}

// The fields of a row's features as a table has them: vectors with their linear weights.
static void writeFields(Pass* pass, int candidate) {
  const Model* m = pass->m;
  float* out = pass->request->fields + (size_t)candidate * m->fieldWidth;
  for (int f = 0; f < m->fieldCount; ++f) {
    float linear = 0;
    const float* vector = fieldVector(pass, f, candidate, &linear);
    for (int k = 0; k < m->width; ++k) *out++ = vector[k];
    if (m->hasLinear) *out++ = linear;
  }
}

static void outputTerm(Pass* pass, const float* crossed, int first, int rows) {
  const Model* m = pass->m;
  Rows pieces[3];
  int pieceCount = 0;
  if (m->hasCrossed) pieces[pieceCount++] = {crossed, m->inputStride, m->inputColumns};
  if (m->hasTower) pieces[pieceCount++] = towerRows(pass, crossed, first, rows);
  if (m->outputProducts.count > 0)
    pieces[pieceCount++] = {pass->outputProducts, m->scratchStride, m->outputProducts.count};
  for (int r = 0; r < rows; ++r) {
    const uint8_t* block = blockAt(m, pass->request->blocks[first + r]);
    const size_t crowd = m->crowdModes ? crowdAt(pass, first + r) + (m->biasPart >= 0) : 0;
    int weight = 0;
    float term = 0;
    for (int p = 0; p < pieceCount; ++p) {
      const float* values = pieces[p].values + (size_t)r * pieces[p].stride;
      term += m->outputPart < 0 ? dot(values, m->output + weight, pieces[p].count)
                                : ownDot(m->parts + m->outputPart, block, weight, values, pieces[p].count);
      if (m->variancesPart >= 0 && m->outputPart >= 0)
        pass->variances[r] += ownVariance(pass, block, weight, values, pieces[p].count);
      if (m->crowdModes && m->outputPart >= 0) addCrowd(pass, r, crowd + weight, values, pieces[p].count, &term);
      if (pass->request->slopes && m->outputPart >= 0) writeSlopes(pass, first + r, weight, values, pieces[p].count);
      weight += pieces[p].count;
    }
    pass->logits[r] += term;
  }
}

static float* take(float** room, size_t count) {
  float* taken = *room;
  *room += (count + 15) / 16 * 16;
  return taken;
}

static int scoreRequest(const Model* m, const Request* request, float* logits) {
  const int status = isValid(m, request);
  if (status != SCORED) return status;
  Pass pass;
  pass.m = m;
  pass.request = request;
  pass.block = m->shards[0];
  float* room = m->scratch;
  const size_t width = m->width, stride = m->scratchStride;
  pass.contextVectors = take(&room, m->fieldCount * width);
  pass.ownVectors = take(&room, m->fieldCount * (width + 1));
  pass.sum = take(&room, width);
  pass.sumAll = take(&room, width);
  pass.rowSum = take(&room, width);
  pass.rowSumAll = take(&room, width);
  pass.start = take(&room, stride);
  pass.crossStart = take(&room, stride);
  pass.inputs = take(&room, stride);
  pass.places = (int32_t*)take(&room, stride);
  pass.room = take(&room, stride);
  pass.x = take(&room, TILE_ROWS * (size_t)m->inputStride);
  pass.crossed = take(&room, TILE_ROWS * (size_t)m->inputStride);
  pass.crossedNext = take(&room, TILE_ROWS * (size_t)m->inputStride);
  pass.compressed = take(&room, TILE_ROWS * stride);
  pass.hidden[0] = take(&room, TILE_ROWS * stride);
  pass.hidden[1] = take(&room, TILE_ROWS * stride);
  pass.outputProducts = take(&room, TILE_ROWS * stride);
  const int n = request->count;
  pass.ahead = {m, request, 0, n < TILE_ROWS ? n : TILE_ROWS};
  fetchAhead(&pass.ahead, TILE_ROWS);
  contextPart(&pass);
  for (int first = 0; first < n; first += TILE_ROWS) {
    const int rows = n - first < TILE_ROWS ? n - first : TILE_ROWS;
    const int next = first + rows;
    gatherRows(&pass, first, rows);
    pass.ahead.end = n - next < TILE_ROWS ? n : next + TILE_ROWS;
    const float* crossed = m->crossLayerCount > 0 ? crossLayers(&pass, rows) : pass.x;
    if (m->hasOutput) outputTerm(&pass, crossed, first, rows);
    fetchAhead(&pass.ahead, TILE_ROWS);
    for (int r = 0; r < rows; ++r) {
      if (request->slopes && m->biasPart >= 0) request->slopes[(size_t)(first + r) * m->slopeCount] = 1;
      if (request->fields) writeFields(&pass, first + r);
      moderate(&pass, r, first + r);
      logits[first + r] = pass.logits[r];
    }
  }
  cleanUpper();
  return SCORED;
}
