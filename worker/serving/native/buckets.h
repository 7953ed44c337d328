// Hash buckets of texts (MD5, RFC 1321), two vectors of them at a time: each step waits for the one before it.
#pragma once
#include "vectors.h"

typedef uint32_t lanes __attribute__((vector_size(VW * 4)));

enum { MD5_BLOCK_BYTES = 64, MD5_BLOCK_WORDS = 16, MD5_LENGTH_BYTES = 8, TEXTS_AT_ONCE = 2 * VW };

struct Md5State {
  lanes a[2], b[2], c[2], d[2];
};

// Word w of the block of text t is word w * TEXTS_AT_ONCE + t.
struct Md5Block {
  alignas(VW * 4) uint32_t words[MD5_BLOCK_WORDS * TEXTS_AT_ONCE];
};

static const uint32_t MD5_CONSTANTS[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};

// One step of a round: `a` takes the place that `b` has in the next one.
template <int ROUND, int SHIFT>
ALWAYS_INLINE void md5Step(lanes* a, const lanes* b, const lanes* c, const lanes* d, const uint32_t* word, uint32_t added) {
  for (int half = 0; half < 2; ++half) {
    const lanes x = b[half], y = c[half], z = d[half];
    const lanes mixed = ROUND == 0   ? z ^ (x & (y ^ z))
                        : ROUND == 1 ? y ^ (z & (x ^ y))
                        : ROUND == 2 ? x ^ y ^ z
                                     : y ^ (x | ~z);
    const lanes sum = a[half] + mixed + *(const lanes*)(word + half * VW) + added;
    a[half] = x + ((sum << SHIFT) | (sum >> (32 - SHIFT)));
  }
}

template <int ROUND, int FIRST, int SECOND, int THIRD, int FOURTH>
ALWAYS_INLINE void md5Round(Md5State* s, const Md5Block* block) {
  const int factors[] = {1, 5, 3, 7}, offsets[] = {0, 1, 5, 0};
  const auto word = [&](int step) {
    return block->words + ((factors[ROUND] * step + offsets[ROUND]) % MD5_BLOCK_WORDS) * TEXTS_AT_ONCE;
  };
  const uint32_t* const added = MD5_CONSTANTS + ROUND * MD5_BLOCK_WORDS;
  for (int step = 0; step < MD5_BLOCK_WORDS; step += 4) {
    md5Step<ROUND, FIRST>(s->a, s->b, s->c, s->d, word(step), added[step]);
    md5Step<ROUND, SECOND>(s->d, s->a, s->b, s->c, word(step + 1), added[step + 1]);
    md5Step<ROUND, THIRD>(s->c, s->d, s->a, s->b, word(step + 2), added[step + 2]);
    md5Step<ROUND, FOURTH>(s->b, s->c, s->d, s->a, word(step + 3), added[step + 3]);
  }
}

// A message is its bytes, 0x80, zeros, and its length in bits as a word of 64 bits.
static size_t md5BlockCount(size_t length) { return (length + MD5_LENGTH_BYTES) / MD5_BLOCK_BYTES + 1; }

// Writes block `number` of a message to its lane; zeros where the message has ended.
static void writeMd5Block(const HashedText* text, size_t number, int lane, Md5Block* block) {
  uint32_t words[MD5_BLOCK_WORDS] = {};
  const size_t start = number * MD5_BLOCK_BYTES;
  if (start < text->length) {
    const size_t left = text->length - start;
    __builtin_memcpy(words, text->data + start, left < MD5_BLOCK_BYTES ? left : MD5_BLOCK_BYTES);
  }
  if (text->length >= start && text->length < start + MD5_BLOCK_BYTES)
    words[(text->length - start) / 4] |= 0x80u << (8 * (text->length % 4));
  if (number + 1 == md5BlockCount(text->length)) {
    const uint64_t bitCount = (uint64_t)text->length * 8;
    words[14] = (uint32_t)bitCount;
    words[15] = (uint32_t)(bitCount >> 32);
  }
  for (int word = 0; word < MD5_BLOCK_WORDS; ++word) block->words[word * TEXTS_AT_ONCE + lane] = words[word];
}

// A text whose message has ended keeps its state.
ALWAYS_INLINE void addMd5Block(Md5State* state, const Md5Block* block, const uint32_t* isLeft) {
  Md5State next = *state;
  md5Round<0, 7, 12, 17, 22>(&next, block);
  md5Round<1, 5, 9, 14, 20>(&next, block);
  md5Round<2, 4, 11, 16, 23>(&next, block);
  md5Round<3, 6, 10, 15, 21>(&next, block);
  for (int half = 0; half < 2; ++half) {
    const lanes mask = *(const lanes*)(isLeft + half * VW);
    state->a[half] += next.a[half] & mask;
    state->b[half] += next.b[half] & mask;
    state->c[half] += next.c[half] & mask;
    state->d[half] += next.d[half] & mask;
  }
}

static void bucketsOfSome(const HashedText* texts, int count, uint32_t buckets, uint32_t* found) {
  size_t blockCount = 0;
  for (int text = 0; text < count; ++text) {
    const size_t ofText = md5BlockCount(texts[text].length);
    if (ofText > blockCount) blockCount = ofText;
  }
  Md5State state;
  for (int half = 0; half < 2; ++half) {
    state.a[half] = lanes{} + 0x67452301u;
    state.b[half] = lanes{} + 0xefcdab89u;
    state.c[half] = lanes{} + 0x98badcfeu;
    state.d[half] = lanes{} + 0x10325476u;
  }
  Md5Block block = {};
  alignas(VW * 4) uint32_t isLeft[TEXTS_AT_ONCE] = {};
  for (size_t number = 0; number < blockCount; ++number) {
    for (int text = 0; text < count; ++text) {
      isLeft[text] = number < md5BlockCount(texts[text].length) ? ~0u : 0;
      if (isLeft[text] != 0) writeMd5Block(texts + text, number, text, &block);
    }
    addMd5Block(&state, &block, isLeft);
  }
  for (int text = 0; text < count; ++text) {
    const uint64_t last = state.c[text / VW][text % VW] | (uint64_t)state.d[text / VW][text % VW] << 32;
    found[text] = (uint32_t)(1 + last % (buckets - 1));
  }
}

static void bucketsOfTexts(const HashedText* texts, size_t count, uint32_t buckets, uint32_t* found) {
  for (size_t text = 0; text < count; text += TEXTS_AT_ONCE) {
    const size_t left = count - text;
    bucketsOfSome(texts + text, (int)(left < TEXTS_AT_ONCE ? left : TEXTS_AT_ONCE), buckets, found + text);
  }
  cleanUpper();
}
