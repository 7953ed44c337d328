// Blocks and table rows of the tile to come, fetched a few rows at a time between products: all at once
// they would wait for each other.
#pragma once
#include "vectors.h"

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
