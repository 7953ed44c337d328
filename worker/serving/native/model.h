// A ranking model as the kernel reads it. Plain data, so that files compiled for other instruction
// sets share no code by accident. Weights of shared layers are packed into panels; blocks, tables and
// all else lie where the caller has them.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Fetches memory that is read soon into the second cache: many lines at once would drive out of the first one what is
// under way, and on AMD's processors they wait for each other on their way there.
static inline __attribute__((always_inline)) void fetch(const void* line) { __builtin_prefetch(line, 0, 2); }

enum { FIELDS_MAX = 512, TILE_ROWS = 48 };
enum Source { FROM_IDS = 0, FROM_BAG = 1, FROM_NUMBER = 2, FROM_BLOCK = 3 };
enum Encoding { FLOAT32 = 0, FLOAT16 = 1 };
enum Status { SCORED = 0, NO_SUCH_BLOCK = 1, NO_SUCH_ID = 2 };

// A field of the model. `column`: where its vector begins in an input row; -1 if nothing reads it there.
struct Field {
  int32_t source, isContext, firstPlace, placeCount;
  int32_t part, hasLinear, isFactorised, column;
  // A number: where the request has it, and which one it is. Its weights are personal where a part is not -1.
  int32_t readsContext, number, factorsPart, linearPart;
  const float* values;  // The table, or the factors of the number.
  int64_t rowCount;
  float linear;         // The linear weight of a number.
};

// A personal variable in every block.
struct Part {
  int32_t encoding, byteOffset, count;
};

// [inCount, outCount]. Personal where `weightPart` is not -1; the packed weights are not read then.
struct Layer {
  int32_t inCount, outCount, outPadded, hasRelu, weightPart, biasPart;
  const float* packed;
  const float* bias;  // [outPadded]
};

struct Products {
  int32_t pairCount, byFieldCount, hasOuter, count;
  const int32_t* pairs;
  const int32_t* byField;
};

struct Model {
  int32_t width, rowWidth, hasLinear, hasPairTerm, isPadded;
  int32_t contextIdCount, candidateIdCount, contextNumberCount, candidateNumberCount;
  int32_t fieldCount;
  const Field* fields;
  const Part* parts;
  // Input rows: context columns, then those of candidates, then products.
  int32_t inputColumns, contextColumns, inputStride, needsContextColumns;
  Products inputProducts, outputProducts;
  int32_t crossLayerCount, crossRank;
  const Layer* cross;  // One for each cross layer, or two: compress and expand.
  int32_t hasTower, towerReadsCrossed, hiddenCount;
  const Layer* hidden;
  int32_t hasOutput, hasCrossed, outputPart;
  const float* output;
  int32_t biasPart;
  float bias;
  int32_t variancesPart;  // -1 if blocks have none.
  int32_t slopeCount, fieldWidth;
  // Blocks of crowds, [crowdCount, slopeCount]: what they add to the weights of a block, and variances. Null if there are none.
  const float* crowdModes;
  const float* crowdVariances;
  int32_t crowdIsContext, crowdPlace;  // The id of the category whose values are crowds.
  int32_t strideByteCount, shardShift;
  int64_t blockCount;
  const uint8_t* const* shards;
  int32_t scratchStride;  // Floats of the widest row.
  float* scratch;
};

struct Request {
  int32_t count;
  const int32_t* blocks;
  const int32_t* contextIds;
  const int32_t* candidateIds;
  const float* contextNumbers;
  const float* candidateNumbers;
  float* variances;  // Of the logits; null if nobody reads them.
  // What adapting reads of each row, or null: the slopes of its logit in the personal bias and output weights, `[slopeCount]`,
  // and the fields of its features with their linear weights, `[fieldWidth]`.
  float* slopes;
  float* fields;
};

typedef int (*ScoreFunction)(const Model*, const Request*, float* logits);

struct HashedText {
  const uint8_t* data;
  size_t length;
};

// The bucket of each text, from 1 on: 1 + (last eight bytes of its MD5, little-endian) mod (buckets - 1).
typedef void (*BucketFunction)(const HashedText* texts, size_t count, uint32_t buckets, uint32_t* found);

// The kernel for one instruction set. Packed weights are padded to vectors and cut into panels.
struct Kernel {
  const char* name;
  int32_t vectorFloats, panelFloats;
  ScoreFunction score;
  BucketFunction bucketsOf;
};

extern const Kernel PORTABLE_KERNEL;
#ifdef __x86_64__
extern const Kernel AVX2_KERNEL;
#endif
