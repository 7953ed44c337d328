// Dictionaries of texts, and what their lookups share with those of keys.
#pragma once
#include <stdint.h>
#include <string.h>
#include <algorithm>
#include "../../../shared/tensors/native/arguments.h"
#include "model.h"

const uint32_t NULL_START = 0xffffffff;
const uint32_t MISSING_START = 0xfffffffe;

struct Text {
  const uint8_t* data;
  size_t length;
};

// Texts of a column where they lie.
struct Texts {
  View<uint8_t> bytes;
  View<uint32_t> spans;

  Text at(size_t index) const {
    const uint32_t start = spans.data[2 * index], end = spans.data[2 * index + 1];
    if (start == NULL_START) return {bytes.data, 0};
    demand(start <= end && end <= bytes.count, "a text lies outside its bytes");
    return {bytes.data + start, end - start};
  }
};

const int32_t UNKNOWN = 0;

// Hashes by the recipe of Fowler, Noll and Vo, four texts at a time: each byte waits for the product of the one before it.
template <class Hash>
void hashTexts(const Text* texts, size_t count, Hash basis, Hash prime, Hash* hashes) {
  const auto hashOn = [prime](Text text, size_t from, Hash hash) {
    for (size_t at = from; at < text.length; ++at) hash = (hash ^ text.data[at]) * prime;
    return hash;
  };
  size_t index = 0;
  for (; index + 4 <= count; index += 4) {
    const Text a = texts[index], b = texts[index + 1], c = texts[index + 2], d = texts[index + 3];
    const size_t shared = std::min(std::min(a.length, b.length), std::min(c.length, d.length));
    Hash ofA = basis, ofB = basis, ofC = basis, ofD = basis;
    for (size_t at = 0; at < shared; ++at) {
      ofA = (ofA ^ a.data[at]) * prime;
      ofB = (ofB ^ b.data[at]) * prime;
      ofC = (ofC ^ c.data[at]) * prime;
      ofD = (ofD ^ d.data[at]) * prime;
    }
    hashes[index] = hashOn(a, shared, ofA);
    hashes[index + 1] = hashOn(b, shared, ofB);
    hashes[index + 2] = hashOn(c, shared, ofC);
    hashes[index + 3] = hashOn(d, shared, ofD);
  }
  for (; index < count; ++index) hashes[index] = hashOn(texts[index], 0, basis);
}

template <class Word>
bool isSameWord(const uint8_t* a, const uint8_t* b) {
  Word first, second;
  memcpy(&first, a, sizeof first);
  memcpy(&second, b, sizeof second);
  return first == second;
}

// Most texts are short: two words that may overlap are all of one. Both are compared, since a guess which differs is wrong half of the time.
inline bool isSame(const uint8_t* a, const uint8_t* b, size_t length) {
  if (length > 16 || length < 4) return memcmp(a, b, length) == 0;
  if (length >= 8) return isSameWord<uint64_t>(a, b) & isSameWord<uint64_t>(a + length - 8, b + length - 8);
  return isSameWord<uint32_t>(a, b) & isSameWord<uint32_t>(a + length - 4, b + length - 4);
}

// Texts one after the other by their numbers.
struct Stored {
  View<uint8_t> bytes;
  View<uint32_t> offsets;

  bool isThere(int32_t number) const { return number > 0 && size_t(number) + 1 < offsets.count; }
  void fetchOffset(int32_t number) const {
    if (isThere(number)) fetch(offsets.data + number);
  }
  // Both ends: a text may lie in two lines of memory.
  void fetchBytes(int32_t number, size_t length) const {
    if (!isThere(number)) return;
    const uint8_t* const start = bytes.data + offsets.data[number];
    fetch(start);
    fetch(start + length);
  }
  bool has(int32_t number, Text text) const {
    if (number < 0 || size_t(number) + 1 >= offsets.count) return false;
    const uint32_t start = offsets.data[number], end = offsets.data[number + 1];
    if (end - start != text.length || end > bytes.count) return false;
    return isSame(bytes.data + start, text.data, text.length);
  }
};

// Where a search begins among a power of two of slots.
class FirstSlot {
 public:
  explicit FirstSlot(size_t slotCount) {
    for (size_t count = slotCount; count > 1; count >>= 1) --shift_;
  }
  static uint32_t mixed(uint32_t hash) { return hash * 0x9e3779b1u; }
  // A shift by 32 would be undefined.
  size_t of(uint32_t mixed) const { return uint64_t(mixed) >> shift_; }
  int slotBitCount() const { return 32 - shift_; }

 private:
  int shift_ = 32;
};

// Candidates that are looked up together: while one waits for memory, so do the others.
const size_t BATCH = 512;
// Candidates between the one whose slot is fetched and the one that is looked up.
const size_t AHEAD = 16;

// The dictionary of `packed-dictionary.ts`.
class Dictionary {
 public:
  Dictionary(Stored texts, View<uint32_t> slots)
      : texts_(texts), slots_(slots), first_(slots.count), idBitCount_(std::max(first_.slotBitCount() - 1, 0)) {}

  // A text whose slot is another one's goes on together with others, too.
  void lookUp(const Texts& asked, size_t begin, size_t end, int32_t* target, size_t stride) const {
    Search searches[BATCH];
    Text texts[BATCH];
    int32_t* found[BATCH];
    uint32_t hashes[BATCH];
    size_t count = 0;
    for (size_t index = begin; index < end; ++index) {
      target[index * stride] = UNKNOWN;
      const Text text = asked.at(index);
      if (text.length == 0) continue;
      texts[count] = text;
      found[count++] = target + index * stride;
    }
    hashTexts<uint32_t>(texts, count, 0x811c9dc5u, 0x01000193u, hashes);
    for (size_t index = 0; index < count; ++index) {
      const uint32_t mixed = FirstSlot::mixed(hashes[index]);
      searches[index] = {uint32_t(index), uint32_t(first_.of(mixed)), mixed << idBitCount_, UNKNOWN};
      fetch(slots_.data + searches[index].slot);
    }
    // A text that is nowhere meets an empty slot: at most half of them are taken.
    for (size_t probed = 0; count > 0 && probed < slots_.count; ++probed) count = step(searches, count, texts, found);
  }

 private:
  // Indexed by the place of its text among those of the batch.
  struct Search {
    uint32_t text;
    uint32_t slot;
    uint32_t mark;
    int32_t id;
  };

  // Goes on to the next slot with the mark of a text. False where there is none.
  bool reach(Search* search) const {
    for (size_t probed = 0; probed < slots_.count; ++probed) {
      const uint32_t held = slots_.data[search->slot];
      if (held == 0) return false;
      search->id = int32_t(held & ((uint32_t(1) << idBitCount_) - 1));
      if ((held ^ search->mark) >> idBitCount_ == 0) return true;
      search->slot = next(search->slot);
    }
    return false;
  }

  uint32_t next(uint32_t slot) const { return uint32_t((slot + 1) & (slots_.count - 1)); }

  // Compares each text with the one at the next slot with its mark, and returns how many go on.
  size_t step(Search* searches, size_t count, const Text* texts, int32_t* const* found) const {
    size_t taken = 0, left = 0;
    for (size_t index = 0; index < count; ++index) {
      Search search = searches[index];
      if (!reach(&search)) continue;
      texts_.fetchOffset(search.id);
      searches[taken++] = search;
    }
    for (size_t index = 0; index < taken; ++index)
      texts_.fetchBytes(searches[index].id, texts[searches[index].text].length);
    for (size_t index = 0; index < taken; ++index) {
      Search search = searches[index];
      const bool isFound = texts_.has(search.id, texts[search.text]);
      *found[search.text] = isFound ? search.id : UNKNOWN;
      search.slot = next(search.slot);
      searches[left] = search;
      left += !isFound;
    }
    return left;
  }

  Stored texts_;
  View<uint32_t> slots_;
  FirstSlot first_;
  int idBitCount_;
};
