// See ranking.h. Every number is that of TypeScript, bit for bit: the recipe says how this file is compiled.
#include "addon.h"
#include <math.h>
#include <string.h>
#include <algorithm>
#include <utility>
#include "../../../shared/tensors/native/arguments.h"

namespace {

// Candidates that are looked up together: while one waits for memory, so do the others.
const size_t BATCH = 64;

double powerOfTwo(int exponent) {
  const uint64_t bits = uint64_t(1023 + exponent) << 52;
  double power;
  memcpy(&power, &bits, sizeof power);
  return power;
}

// e to the power of a number that is not above 0, as FDLIBM computes it, and with it `Math.exp`. It has no branch that the usual numbers
// take one time and not the next: a wrong guess costs more than all the rest.
double expOf(double x) {
  const double LN2_HIGH = 6.93147180369123816490e-01, LN2_LOW = 1.90821492927058770002e-10;
  const double INVERSE_LN2 = 1.44269504088896338700e+00, LEAST = -7.45133219101941108420e+02, SMALL = -700;
  const double P1 = 1.66666666666666019037e-01, P2 = -2.77777777770155933842e-03, P3 = 6.61375632143793436117e-05;
  const double P4 = -1.65339022054652515390e-06, P5 = 4.13813679705723846039e-08;
  // Upper halves of the smallest numbers that differ from 0, and from half of the logarithm of 2.
  const uint32_t TINY = 0x3e300000, HALF_LN2 = 0x3fd62e42;
  const int SMALLER = 1000;
  if (!(x >= LEAST)) return x < LEAST ? 0 : x;
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t upper = uint32_t(bits >> 32) & 0x7fffffff;
  if (upper < TINY) return 1 + x;
  const int exponent = int(INVERSE_LN2 * x - 0.5) & -int(upper > HALF_LN2);
  const double high = x - exponent * LN2_HIGH, low = exponent * LN2_LOW;
  const double rest = high - low;
  const double t = rest * rest;
  const double c = rest - t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * P5))));
  const double found = 1 - ((low - (rest * c) / (2 - c)) - high);
  if (x < SMALL && exponent < -1021) return found * powerOfTwo(exponent + SMALLER) * powerOfTwo(-SMALLER);
  return found * powerOfTwo(exponent);
}

// 1 / (1 + e^-z), or e^z / (1 + e^z) below 0.
double sigmoid(double z) {
  const double odds = expOf(-fabs(z));
  const double numerators[] = {odds, 1};
  return numerators[z >= 0] / (1 + odds);
}

// calibrate(blocks, scores, offsets by block, labels by block, slopes by label, whether all are probabilities, labels, calibrated)
void calibrate(const Arguments& arguments) {
  const View<int32_t> blocks = arguments.words(0);
  const View<float> scores = arguments.floats(1), offsetOf = arguments.floats(2);
  const View<int32_t> labelOf = arguments.words(3);
  const View<double> slopes = arguments.doubles(4);
  // One label alone is that of every block.
  const bool hasLabels = slopes.count > 1;
  const bool areProbabilities = arguments.boolean(5);
  const View<int32_t> labels = arguments.words(6);
  const View<double> calibrated = arguments.doubles(7);
  const size_t count = blocks.count;
  demand(scores.count >= count && labels.count >= count && calibrated.count >= count, "an array is too short");
  for (size_t begin = 0; begin < count; begin += BATCH) {
    const size_t end = begin + BATCH < count ? begin + BATCH : count;
    for (size_t candidate = begin; candidate < end; ++candidate) {
      const uint32_t block = uint32_t(blocks.data[candidate]);
      demand(block < offsetOf.count && block < labelOf.count, "there is no block of this number");
      __builtin_prefetch(offsetOf.data + block);
      if (hasLabels) __builtin_prefetch(labelOf.data + block);
    }
    for (size_t candidate = begin; candidate < end; ++candidate) {
      const int32_t block = blocks.data[candidate];
      const uint32_t label = hasLabels ? uint32_t(labelOf.data[block]) : 0;
      demand(label < slopes.count, "there is no label of this number");
      calibrated.data[candidate] = slopes.data[label] * scores.data[candidate] + offsetOf.data[block];
      labels.data[candidate] = int32_t(label);
    }
    for (size_t candidate = begin; areProbabilities && candidate < end; ++candidate)
      calibrated.data[candidate] = sigmoid(calibrated.data[candidate]);
  }
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

}  // namespace

void defineRanking(napi_env env, napi_value exports) {
  defineFunctions(env, exports, {{"calibrate", calledForEffect<calibrate>},
                   {"order", calledForValue<order>}});
}
