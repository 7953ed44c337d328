// The Node-API addon of the loops in rows.h. Arguments are checked before anything is written.
#include <string.h>
#include <algorithm>
#include <initializer_list>
#include <iterator>
#include "arguments.h"
#include "posterior.h"
#include "processor.h"
#include "rows.h"

namespace {

#ifdef __x86_64__
const RowLoops* const LOOPS = runsHaswell() ? &HASWELL_ROWS : &PORTABLE_ROWS;
#else
const RowLoops* const LOOPS = &PORTABLE_ROWS;
#endif

// Rows of a table of `elementCount` elements; all ids are compared with it.
Rows rowsOf(View<int32_t> ids, size_t width, size_t elementCount) {
  const size_t rowCount = width == 0 ? 0 : elementCount / width;
  uint32_t largest = 0;
  // A negative id becomes a large one.
  for (size_t place = 0; place < ids.count; ++place)
    if ((uint32_t)ids.data[place] > largest) largest = (uint32_t)ids.data[place];
  demand(ids.count == 0 || largest < rowCount, "there is no row of an id");
  return {ids.data, ids.count, width};
}

void demandRows(const Rows& rows, size_t elementCount) {
  demand(rows.count * rows.width <= elementCount, "rows do not fit");
}

void gather(const Arguments& arguments) {
  const auto table = arguments.floats(0);
  const size_t width = arguments.wholeNumber(1);
  const Rows rows = rowsOf(arguments.words(2), width, table.count);
  const auto target = arguments.floats(3);
  const size_t first = arguments.wholeNumber(4);
  demand(first <= target.count, "rows do not fit");
  demandRows(rows, target.count - first);
  LOOPS->gather(&rows, table.data, target.data + first);
}

void add(const Arguments& arguments) {
  const auto table = arguments.floats(0);
  const size_t width = arguments.wholeNumber(1);
  const Rows rows = rowsOf(arguments.words(2), width, table.count);
  const auto addends = arguments.floats(3);
  demandRows(rows, addends.count);
  LOOPS->add(&rows, table.data, addends.data);
}

void addScaled(const Arguments& arguments) {
  const auto table = arguments.floats(0);
  const size_t width = arguments.wholeNumber(1);
  const Rows rows = rowsOf(arguments.words(2), width, table.count);
  const auto updates = arguments.floats(3);
  demandRows(rows, updates.count);
  LOOPS->addScaled(&rows, updates.data, table.data, arguments.number(4));
}

void adam(const Arguments& arguments) {
  const auto first = arguments.floats(0);
  const size_t width = arguments.wholeNumber(1);
  const Rows rows = rowsOf(arguments.words(2), width, first.count);
  const auto second = arguments.floats(3);
  demand(second.count == first.count, "moments differ in size");
  const auto directions = arguments.floats(4);
  demandRows(rows, directions.count);
  const auto factors = arguments.doubles(5);
  demand(factors.count == 5, "a step of Adam has five factors");
  const double* f = factors.data;
  const AdamFactors step = {f[0], f[1], f[2], f[3], f[4]};
  LOOPS->adam(&rows, directions.data, first.data, second.data, &step);
}

void addAll(const Arguments& arguments) {
  const auto sums = arguments.floats(0);
  const auto addends = arguments.floats(1);
  demand(sums.count == addends.count, "arrays differ in size");
  LOOPS->addAll(sums.data, addends.data, sums.count);
}

void scaleAll(const Arguments& arguments) {
  const auto values = arguments.floats(0);
  LOOPS->scaleAll(values.data, values.count, arguments.number(1));
}

// posteriors(starts of groups, rows of all groups, slopes, logits, clicks, impressions, precisions, numbers, modes, variances):
// those of each group under a normal prior with mean 0. Numbers are the steps, the largest change of a logit in a step and the
// least share of precisions.
void posteriors(const Arguments& arguments) {
  const auto starts = arguments.words(0);
  const auto places = arguments.words(1);
  const auto slopes = arguments.floats(2);
  const auto logits = arguments.floats(3);
  const auto clicks = arguments.floats(4);
  const auto impressions = arguments.floats(5);
  const auto precisions = arguments.floats(6);
  const auto numbers = arguments.doubles(7);
  const auto modes = arguments.floats(8);
  const auto variances = arguments.floats(9);
  const size_t count = precisions.count, rowCount = logits.count;
  demand(starts.count > 0 && numbers.count == 3, "an array is too short");
  const size_t groups = starts.count - 1;
  demand(slopes.count == rowCount * count && clicks.count == rowCount && impressions.count == rowCount, "rows differ in number");
  demand(modes.count == groups * count && variances.count == groups * count, "blocks do not fit");
  int32_t end = 0;
  for (size_t group = 0; group <= groups; ++group) {
    demand(starts.data[group] >= end && size_t(starts.data[group]) <= places.count, "groups do not fit");
    end = starts.data[group];
  }
  for (size_t place = 0; place < places.count; ++place)
    demand(places.data[place] >= 0 && size_t(places.data[place]) < rowCount, "there is no such row");
  const std::vector<float> means(count);
  std::vector<float> ownSlopes, ownLogits, ownClicks, ownImpressions;
  Posterior posterior{};
  posterior.stepCount = size_t(numbers.data[0]);
  posterior.factor = 1;
  posterior.stepLengthMax = numbers.data[1];
  posterior.precisionMin = numbers.data[2];
  posterior.prior = {means.data(), precisions.data};
  for (size_t group = 0; group < groups; ++group) {
    const int32_t* own = places.data + starts.data[group];
    const size_t n = size_t(starts.data[group + 1] - starts.data[group]);
    ownSlopes.resize(n * count);
    for (auto* column : {&ownLogits, &ownClicks, &ownImpressions}) column->resize(n);
    for (size_t r = 0; r < n; ++r) {
      std::copy_n(slopes.data + size_t(own[r]) * count, count, ownSlopes.data() + r * count);
      ownLogits[r] = logits.data[own[r]];
      ownClicks[r] = clicks.data[own[r]];
      ownImpressions[r] = impressions.data[own[r]];
    }
    posterior.rows = {n, count, ownSlopes.data(), ownLogits.data(), ownClicks.data(), ownImpressions.data(), false};
    posterior.solve(modes.data + group * count, variances.data + group * count);
  }
}

// The number of distinct ids of two lists, both of which must ascend.
size_t distinctCount(View<int32_t> left, View<int32_t> right) {
  for (const auto& ids : {left, right})
    for (size_t place = 1; place < ids.count; ++place)
      demand(ids.data[place - 1] < ids.data[place], "ids do not ascend");
  size_t count = left.count + right.count;
  for (size_t i = 0, j = 0; i < left.count && j < right.count;) {
    const int32_t ofLeft = left.data[i], ofRight = right.data[j];
    count -= ofLeft == ofRight;
    i += ofLeft <= ofRight;
    j += ofRight <= ofLeft;
  }
  return count;
}

// merge(target, width, leftIds, leftRows, rightIds, rightRows)
void merge(const Arguments& arguments) {
  const auto target = arguments.floats(0);
  const size_t width = arguments.wholeNumber(1);
  const auto leftIds = arguments.words(2);
  const auto leftRows = arguments.floats(3);
  const auto rightIds = arguments.words(4);
  const auto rightRows = arguments.floats(5);
  const Rows left = {leftIds.data, leftIds.count, width};
  const Rows right = {rightIds.data, rightIds.count, width};
  demandRows(left, leftRows.count);
  demandRows(right, rightRows.count);
  demand(distinctCount(leftIds, rightIds) * width == target.count, "rows do not fit");
  LOOPS->merge(target.data, &left, leftRows.data, &right, rightRows.data);
}

// The distinct ids from 0 on, ascending. Scanning a set of bits is cheaper than sorting, unless ids are far apart.
std::vector<int32_t> distinctIds(const std::vector<View<int32_t>>& lists) {
  constexpr size_t BITS_PER_ID_MAX = 512;
  size_t idCount = 0;
  int32_t largest = -1;
  for (const auto& ids : lists) {
    idCount += ids.count;
    for (size_t place = 0; place < ids.count; ++place) largest = std::max(largest, ids.data[place]);
  }
  std::vector<int32_t> found;
  if (largest < 0) return found;
  if ((size_t)largest >= BITS_PER_ID_MAX * idCount) {
    found.reserve(idCount);
    for (const auto& ids : lists)
      std::copy_if(ids.data, ids.data + ids.count, std::back_inserter(found), [](int32_t id) { return id >= 0; });
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
  }
  std::vector<uint64_t> bits((size_t)largest / 64 + 1);
  for (const auto& ids : lists)
    for (size_t place = 0; place < ids.count; ++place) {
      const int32_t id = ids.data[place];
      if (id >= 0) bits[(size_t)id / 64] |= (uint64_t)1 << (id % 64);
    }
  found.reserve(std::min(idCount, (size_t)largest + 1));
  for (size_t word = 0; word < bits.size(); ++word)
    for (uint64_t rest = bits[word]; rest != 0; rest &= rest - 1)
      found.push_back((int32_t)(word * 64 + (size_t)__builtin_ctzll(rest)));
  return found;
}

// distinct(lists)
napi_value distinct(const Arguments& arguments) {
  std::vector<View<int32_t>> lists;
  for (napi_value list : arguments.list(0)) lists.push_back(arguments.wordsOf(list));
  const std::vector<int32_t> found = distinctIds(lists);
  napi_env env = arguments.env();
  void* data = nullptr;
  napi_value buffer, ids;
  demand(napi_create_arraybuffer(env, found.size() * sizeof(int32_t), &data, &buffer) == napi_ok, "no memory for ids");
  if (!found.empty()) memcpy(data, found.data(), found.size() * sizeof(int32_t));
  demand(napi_create_typedarray(env, napi_int32_array, found.size(), buffer, 0, &ids) == napi_ok, "no ids");
  return ids;
}

napi_value init(napi_env env, napi_value exports) {
  defineFunctions(env, exports,
                  {{"gather", calledForEffect<gather>},
                   {"add", calledForEffect<add>},
                   {"addScaled", calledForEffect<addScaled>},
                   {"adam", calledForEffect<adam>},
                   {"addAll", calledForEffect<addAll>},
                   {"scaleAll", calledForEffect<scaleAll>},
                   {"merge", calledForEffect<merge>},
                   {"distinct", calledForValue<distinct>},
                   {"posteriors", calledForEffect<posteriors>}});
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
