// See columns.h.
#include "columns.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <algorithm>
#include <charconv>
#include <stdexcept>
#include "../fetch.h"
#include "../kernels.h"
#include "dictionary.h"
#include "scan.h"

namespace {

// An array whose memory was given back has no elements.
bool isPowerOfTwo(size_t count) { return count > 0 && (count & (count - 1)) == 0; }

void keyHashes(const Text* texts, size_t count, uint32_t seed, uint64_t* hashes) {
  hashTexts<uint64_t>(texts, count, 0xcbf29ce484222325ull ^ seed, 0x100000001b3ull, hashes);
}

// As `key-index.ts` says.
struct KeyIndex {
  View<uint32_t> hashes;
  View<int32_t> blocks;
  FirstSlot first;

  size_t slotOf(uint64_t hash) const { return first.of(FirstSlot::mixed(uint32_t(hash) ^ uint32_t(hash >> 32))); }

  void fetch(uint64_t hash) const {
    const size_t slot = slotOf(hash);
    ::fetch(blocks.data + slot);
    ::fetch(hashes.data + 2 * slot);
  }

  int32_t blockOf(uint64_t hash) const {
    size_t slot = slotOf(hash);
    for (size_t probed = 0; probed < blocks.count; ++probed) {
      const int32_t block = blocks.data[slot];
      const bool isAt =
          hashes.data[2 * slot] == uint32_t(hash) && hashes.data[2 * slot + 1] == uint32_t(hash >> 32);
      if (block == UNKNOWN || isAt) return block;
      slot = (slot + 1) & (blocks.count - 1);
    }
    return UNKNOWN;
  }
};

KeyIndex keyIndexAt(const Arguments& arguments, int first) {
  const View<int32_t> blocks = arguments.words(first + 1);
  const KeyIndex index{arguments.unsignedWords(first), blocks, FirstSlot(blocks.count)};
  demand(index.hashes.count == 2 * index.blocks.count, "the index has other hashes than blocks");
  demand(isPowerOfTwo(index.blocks.count), "an index has a power of two of slots");
  return index;
}

// Candidate i has the place first + i * stride of the target.
void demandPlaces(View<int32_t> target, size_t count, size_t first, size_t stride) {
  demand(count == 0 || (first < target.count && (count == 1 || (target.count - 1 - first) / (count - 1) >= stride)),
         "the target is too short");
}

// lookUpValues(bytes, spans, dictionary's bytes, offsets, slots, count, target, first, stride)
void lookUpValues(const Arguments& arguments) {
  const Texts asked{arguments.bytes(0), arguments.unsignedWords(1)};
  const View<uint32_t> slots = arguments.unsignedWords(4);
  const Dictionary dictionary({arguments.bytes(2), arguments.unsignedWords(3)}, slots);
  const size_t count = arguments.wholeNumber(5), first = arguments.wholeNumber(7), stride = arguments.wholeNumber(8);
  const View<int32_t> target = arguments.words(6);
  demand(asked.spans.count >= 2 * count, "there are fewer texts");
  demandPlaces(target, count, first, stride);
  demand(isPowerOfTwo(slots.count), "an index has a power of two of slots");
  for (size_t begin = 0; begin < count; begin += BATCH)
    dictionary.lookUp(asked, begin, begin + BATCH < count ? begin + BATCH : count, target.data + first, stride);
}

// lookUpBuckets(bytes, spans, buckets, count, whether known ones stay, target, first, stride, kernel): the hash bucket of each
// text, 0 for an empty one. A text stays known where its place has another number than 0.
void lookUpBuckets(const Arguments& arguments) {
  const Texts asked{arguments.bytes(0), arguments.unsignedWords(1)};
  const size_t buckets = arguments.wholeNumber(2), count = arguments.wholeNumber(3);
  const bool keepsKnown = arguments.boolean(4);
  const View<int32_t> target = arguments.words(5);
  const size_t first = arguments.wholeNumber(6), stride = arguments.wholeNumber(7), kernel = arguments.wholeNumber(8);
  demand(asked.spans.count >= 2 * count, "there are fewer texts");
  demandPlaces(target, count, first, stride);
  demand(buckets >= 2 && buckets <= INT32_MAX, "there is no such number of buckets");
  demand(kernel < runningKernels().size(), "there is no such kernel");
  const BucketFunction bucketsOf = runningKernels()[kernel]->bucketsOf;
  HashedText texts[BATCH];
  uint32_t found[BATCH];
  int32_t* places[BATCH];
  for (size_t begin = 0; begin < count; begin += BATCH) {
    size_t textCount = 0;
    for (size_t index = begin; index < count && index < begin + BATCH; ++index) {
      int32_t* const place = target.data + first + index * stride;
      if (keepsKnown && *place != UNKNOWN) continue;
      *place = UNKNOWN;
      const Text text = asked.at(index);
      if (text.length == 0) continue;
      texts[textCount] = {text.data, text.length};
      places[textCount++] = place;
    }
    bucketsOf(texts, textCount, uint32_t(buckets), found);
    for (size_t index = 0; index < textCount; ++index) *places[index] = int32_t(found[index]);
  }
}

// lookUpKeys(bytes, spans, index's hashes, blocks, key bytes, key offsets, seed, blocks, hashes)
void lookUpKeys(const Arguments& arguments) {
  const Texts asked{arguments.bytes(0), arguments.unsignedWords(1)};
  const KeyIndex index = keyIndexAt(arguments, 2);
  const Stored keys{arguments.bytes(4), arguments.unsignedWords(5)};
  const size_t seed = arguments.wholeNumber(6);
  demand(seed <= UINT32_MAX, "this is no seed");
  const View<int32_t> blocks = arguments.words(7);
  const View<uint32_t> hashes = arguments.unsignedWords(8);
  demand(asked.spans.count >= 2 * blocks.count && hashes.count >= 2 * blocks.count, "there are fewer texts");
  for (size_t begin = 0; begin < blocks.count; begin += BATCH) {
    const size_t end = begin + BATCH < blocks.count ? begin + BATCH : blocks.count;
    Text texts[BATCH];
    uint64_t found[BATCH];
    for (size_t candidate = begin; candidate < end; ++candidate) texts[candidate - begin] = asked.at(candidate);
    keyHashes(texts, end - begin, 0, found);
    for (size_t candidate = begin; candidate < end; ++candidate) {
      hashes.data[2 * candidate] = uint32_t(found[candidate - begin]);
      hashes.data[2 * candidate + 1] = uint32_t(found[candidate - begin] >> 32);
    }
    if (seed != 0) keyHashes(texts, end - begin, uint32_t(seed), found);
    for (size_t candidate = begin; candidate < end; ++candidate) index.fetch(found[candidate - begin]);
    for (size_t candidate = begin; candidate < end; ++candidate) {
      const int32_t block = index.blockOf(found[candidate - begin]);
      blocks.data[candidate] = block;
      keys.fetchOffset(block);
    }
    for (size_t candidate = begin; candidate < end; ++candidate)
      keys.fetchBytes(blocks.data[candidate], texts[candidate - begin].length);
    for (size_t candidate = begin; candidate < end; ++candidate)
      if (!keys.has(blocks.data[candidate], texts[candidate - begin])) blocks.data[candidate] = UNKNOWN;
  }
}

// lookUpHashes(words, index's hashes, blocks, blocks)
void lookUpHashes(const Arguments& arguments) {
  const View<uint32_t> words = arguments.unsignedWords(0);
  const KeyIndex index = keyIndexAt(arguments, 1);
  const View<int32_t> blocks = arguments.words(3);
  demand(words.count >= 2 * blocks.count, "there are fewer hashes");
  const auto hashAt = [&](size_t at) { return words.data[2 * at] | uint64_t(words.data[2 * at + 1]) << 32; };
  for (size_t candidate = 0; candidate < blocks.count && candidate < AHEAD; ++candidate) index.fetch(hashAt(candidate));
  for (size_t candidate = 0; candidate < blocks.count; ++candidate) {
    if (candidate + AHEAD < blocks.count) index.fetch(hashAt(candidate + AHEAD));
    blocks.data[candidate] = index.blockOf(hashAt(candidate));
  }
}

// scanBody(body, words, spans, numbers, room to write, length of a text, candidates): the number of columns, -1 for any other body.
// The words are the number of candidates, where their list begins and ends, and the columns.
napi_value scan(const Arguments& arguments) {
  const View<uint8_t> body = arguments.bytes(0);
  const View<int32_t> words = arguments.words(1);
  const View<uint32_t> spans = arguments.unsignedWords(2);
  const View<double> numbers = arguments.doubles(3);
  const View<uint8_t> written = arguments.bytes(4);
  const size_t HEAD = 3, candidates = arguments.wholeNumber(6);
  demand(words.count > HEAD && candidates > 0 && candidates <= INT32_MAX, "there is no room for candidates");
  Scanned scanned{};
  scanned.columns = reinterpret_cast<ScannedColumn*>(words.data + HEAD);
  scanned.columnCountMax = std::min({(words.count - HEAD) * sizeof(int32_t) / sizeof(ScannedColumn),
                                     spans.count / (2 * candidates), numbers.count / candidates});
  scanned.spans = spans.data;
  scanned.numbers = numbers.data;
  scanned.written = written.data;
  scanned.writtenCountMax = std::min(written.count, size_t(INT32_MAX));
  scanned.textLengthMax = arguments.wholeNumber(5);
  scanned.candidateCountMax = candidates;
  const bool isScanned = body.count < INT32_MAX && scanBody(body.data, body.count, &scanned);
  words.data[0] = int32_t(scanned.candidateCount);
  words.data[1] = scanned.candidatesStart;
  words.data[2] = scanned.candidatesEnd;
  napi_value count;
  napi_create_int32(arguments.env(), isScanned ? int32_t(scanned.columnCount) : -1, &count);
  return count;
}

const int NUMBER_BYTES_MAX = 32;
const double WHOLE_MAX = 1e9;

char* writeDouble(char* at, double value) {
#ifdef __cpp_lib_to_chars
  return std::to_chars(at, at + NUMBER_BYTES_MAX, value).ptr;
#else
  return at + snprintf(at, NUMBER_BYTES_MAX, "%.17g", value);
#endif
}

char* writeNumber(char* at, double value) {
  // JSON has no other numbers, and the difference of 0 and -0 means nothing here.
  if (!isfinite(value)) return static_cast<char*>(memcpy(at, "null", 4)) + 4;
  if (value == 0) return *at = '0', at + 1;
  // Digits of a whole number take a fraction of the time.
  if (fabs(value) < WHOLE_MAX && value == int32_t(value)) return std::to_chars(at, at + NUMBER_BYTES_MAX, int32_t(value)).ptr;
  return writeDouble(at, value);
}

// writeNumbers(values, out, at): where the list ends in `out`; its numbers are parted by commas.
napi_value writeNumbers(const Arguments& arguments) {
  napi_typedarray_type type;
  const View<void> values = arguments.elements(arguments.value(0), &type);
  const View<uint8_t> out = arguments.bytes(1);
  const size_t first = arguments.wholeNumber(2);
  demand(first <= out.count && (out.count - first) / (NUMBER_BYTES_MAX + 1) >= values.count, "there is too little room");
  char* at = reinterpret_cast<char*>(out.data) + first;
  for (size_t index = 0; index < values.count; ++index) {
    if (index > 0) *at++ = ',';
    if (type == napi_float64_array) at = writeNumber(at, static_cast<double*>(values.data)[index]);
    else if (type == napi_float32_array) at = writeNumber(at, static_cast<float*>(values.data)[index]);
    else if (type == napi_int32_array)
      at = std::to_chars(at, at + NUMBER_BYTES_MAX, static_cast<int32_t*>(values.data)[index]).ptr;
    else throw std::runtime_error("numbers of this type are not written");
  }
  napi_value end;
  napi_create_uint32(arguments.env(), uint32_t(at - reinterpret_cast<char*>(out.data)), &end);
  return end;
}

}  // namespace

void defineColumns(napi_env env, napi_value exports) {
  defineFunctions(env, exports,
                  {{"lookUpValues", calledForEffect<lookUpValues>},
                   {"lookUpBuckets", calledForEffect<lookUpBuckets>},
                   {"lookUpKeys", calledForEffect<lookUpKeys>},
                   {"lookUpHashes", calledForEffect<lookUpHashes>},
                   {"scanBody", calledForValue<scan>},
                   {"writeNumbers", calledForValue<writeNumbers>}});
}
