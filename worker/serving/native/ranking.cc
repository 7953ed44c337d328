// See ranking.h. Every number is that of TypeScript, bit for bit: the recipe says how this file is compiled.
#include "ranking.h"
#include <string.h>
#include <algorithm>
#include <utility>
#include "../../../shared/tensors/native/arguments.h"

namespace {

// Candidates that are looked up together: while one waits for memory, so do the others.
const size_t BATCH = 64;

// calibrate(blocks, scores, calibrations by block, labels by block, slopes, offsets, labels, calibrated)
void calibrate(const Arguments& arguments) {
  const View<int32_t> blocks = arguments.words(0);
  const View<float> scores = arguments.floats(1);
  const View<int32_t> calibrationOf = arguments.words(2), labelOf = arguments.words(3);
  const View<double> slopes = arguments.doubles(4), offsets = arguments.doubles(5);
  const View<int32_t> labels = arguments.words(6);
  const View<double> calibrated = arguments.doubles(7);
  const size_t count = blocks.count;
  demand(scores.count >= count && labels.count >= count && calibrated.count >= count, "an array is too short");
  demand(slopes.count == offsets.count, "every calibration has a slope and an offset");
  for (size_t begin = 0; begin < count; begin += BATCH) {
    const size_t end = begin + BATCH < count ? begin + BATCH : count;
    for (size_t candidate = begin; candidate < end; ++candidate) {
      const uint32_t block = uint32_t(blocks.data[candidate]);
      demand(block < calibrationOf.count && block < labelOf.count, "there is no block of this number");
      __builtin_prefetch(calibrationOf.data + block);
      __builtin_prefetch(labelOf.data + block);
    }
    for (size_t candidate = begin; candidate < end; ++candidate) {
      const int32_t block = blocks.data[candidate];
      const uint32_t calibration = uint32_t(calibrationOf.data[block]);
      demand(calibration < slopes.count, "there is no calibration of this number");
      calibrated.data[candidate] = slopes.data[calibration] * scores.data[candidate] + offsets.data[calibration];
      labels.data[candidate] = labelOf.data[block];
    }
  }
}

// The number of each candidate's block.
template <class Number>
void gatherNumbers(View<void> numbers, View<int32_t> blocks, View<double> found) {
  const Number* const ofBlocks = static_cast<Number*>(numbers.data);
  for (size_t begin = 0; begin < blocks.count; begin += BATCH) {
    const size_t end = std::min(begin + BATCH, blocks.count);
    for (size_t candidate = begin; candidate < end; ++candidate) {
      const uint32_t block = uint32_t(blocks.data[candidate]);
      demand(block < numbers.count, "there is no block of this number");
      __builtin_prefetch(ofBlocks + block);
    }
    for (size_t candidate = begin; candidate < end; ++candidate)
      found.data[candidate] = double(ofBlocks[blocks.data[candidate]]);
  }
}

// gather(numbers by block, blocks, found)
void gather(const Arguments& arguments) {
  napi_typedarray_type type;
  const View<void> numbers = arguments.elements(arguments.value(0), &type);
  const View<int32_t> blocks = arguments.words(1);
  const View<double> found = arguments.doubles(2);
  demand(found.count >= blocks.count, "an array is too short");
  if (type == napi_float64_array) gatherNumbers<double>(numbers, blocks, found);
  else if (type == napi_uint32_array) gatherNumbers<uint32_t>(numbers, blocks, found);
  else demand(false, "numbers of this type are not gathered");
}

// A candidate, and the upper half of its value such that the largest value has the smallest key.
struct Keyed {
  uint32_t key;
  int32_t place;
};

uint32_t keyOf(double value) {
  const double withoutMinusZero = value + 0.0;
  uint64_t bits;
  memcpy(&bits, &withoutMinusZero, sizeof bits);
  const uint64_t sign = uint64_t(1) << 63;
  return uint32_t(((bits & sign) != 0 ? bits : ~bits & ~sign) >> 32);
}

// Sorts by the digits of the keys, the lowest first; candidates with one digit stay as they were.
Keyed* sortedByKey(Keyed* from, Keyed* to, size_t count) {
  const size_t DIGITS = 4, VALUES = 256;
  uint32_t ends[DIGITS][VALUES] = {};
  for (size_t index = 0; index < count; ++index)
    for (size_t digit = 0; digit < DIGITS; ++digit) ++ends[digit][from[index].key >> 8 * digit & 0xff];
  for (size_t digit = 0; digit < DIGITS; ++digit) {
    uint32_t* const next = ends[digit];
    uint32_t sum = 0;
    for (size_t value = 0; value < VALUES; ++value) {
      const uint32_t ofValue = next[value];
      next[value] = sum;
      sum += ofValue;
    }
    for (size_t index = 0; index < count; ++index) to[next[from[index].key >> 8 * digit & 0xff]++] = from[index];
    std::swap(from, to);
  }
  return from;
}

// order(values, reserve, order): how many values are not below the reserve; their places in `order`, from the largest value
// to the smallest, equal ones as they were. -1 less that number where some are equal.
napi_value order(const Arguments& arguments) {
  const View<double> values = arguments.doubles(0);
  const double reserve = arguments.number(1);
  const View<int32_t> order = arguments.words(2);
  demand(order.count >= values.count, "an array is too short");
  demand(values.count <= INT32_MAX, "there are too many candidates");
  static thread_local std::vector<Keyed> room;
  if (room.size() < 2 * values.count) room.resize(2 * values.count);
  size_t count = 0;
  for (size_t place = 0; place < values.count; ++place)
    if (values.data[place] >= reserve) room[count++] = {keyOf(values.data[place]), int32_t(place)};
  const Keyed* const sorted = sortedByKey(room.data(), room.data() + values.count, count);
  for (size_t index = 0; index < count; ++index) order.data[index] = sorted[index].place;
  bool hasEqual = false;
  for (size_t start = 0; start < count;) {
    size_t end = start + 1;
    while (end < count && sorted[end].key == sorted[start].key) ++end;
    if (end - start > 1)
      std::stable_sort(order.data + start, order.data + end,
                       [&](int32_t a, int32_t b) { return values.data[a] > values.data[b]; });
    for (size_t index = start + 1; index < end; ++index)
      hasEqual = hasEqual || values.data[order.data[index]] == values.data[order.data[index - 1]];
    start = end;
  }
  napi_value found;
  napi_create_int32(arguments.env(), hasEqual ? -1 - int32_t(count) : int32_t(count), &found);
  return found;
}

// weigh(expected, bids, values): each value is a bid times what is expected, or times 0 where that is less.
void weigh(const Arguments& arguments) {
  const View<double> expected = arguments.doubles(0), bids = arguments.doubles(1), values = arguments.doubles(2);
  demand(bids.count >= expected.count && values.count >= expected.count, "an array is too short");
  for (size_t candidate = 0; candidate < expected.count; ++candidate) {
    const double found = expected.data[candidate];
    values.data[candidate] = bids.data[candidate] * (found <= 0 ? 0.0 : found);
  }
}

// areDifferent(hashes): whether no hash of two words comes twice.
napi_value areDifferent(const Arguments& arguments) {
  const View<uint32_t> words = arguments.unsignedWords(0);
  const size_t count = words.count / 2;
  demand(count <= INT32_MAX, "there are too many hashes");
  size_t slotCount = 64;
  while (slotCount < 4 * count) slotCount *= 2;
  // Places from 1 on; 0 is an empty slot.
  static thread_local std::vector<int32_t> slots;
  slots.assign(slotCount, 0);
  bool isFound = false;
  for (size_t place = 0; place < count && !isFound; ++place) {
    const uint32_t low = words.data[2 * place], high = words.data[2 * place + 1];
    size_t slot = (low ^ (high >> 7)) & (slotCount - 1);
    for (; slots[slot] != 0; slot = (slot + 1) & (slotCount - 1)) {
      const size_t earlier = slots[slot] - 1;
      isFound = isFound || (words.data[2 * earlier] == low && words.data[2 * earlier + 1] == high);
    }
    slots[slot] = int32_t(place + 1);
  }
  napi_value areAll;
  napi_get_boolean(arguments.env(), !isFound, &areAll);
  return areAll;
}

}  // namespace

void defineRanking(napi_env env, napi_value exports) {
  defineFunctions(env, exports, {{"calibrate", calledForEffect<calibrate>},
                   {"gather", calledForEffect<gather>},
                   {"order", calledForValue<order>},
                   {"weigh", calledForEffect<weigh>},
                   {"areDifferent", calledForValue<areDifferent>}});
}
