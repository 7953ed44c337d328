// The Node-API addon of the loops in rows.h. Arguments are checked before anything is written.
#include <vector>
#include "arguments.h"
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

// sum(sums, width, sumIds, ids, addends, first): both lists of ids ascend, and sumIds has every id.
void sum(const Arguments& arguments) {
  const auto sums = arguments.doubles(0);
  const size_t width = arguments.wholeNumber(1);
  const auto sumIds = arguments.words(2);
  const auto ids = arguments.words(3);
  const auto addends = arguments.floats(4);
  const size_t first = arguments.wholeNumber(5);
  demand(sumIds.count * width <= sums.count, "sums do not fit");
  static thread_local std::vector<int32_t> places;
  places.resize(ids.count);
  size_t place = 0;
  for (size_t index = 0; index < ids.count; ++index) {
    const int32_t id = ids.data[index];
    while (place < sumIds.count && sumIds.data[place] < id) ++place;
    demand(place < sumIds.count && sumIds.data[place] == id, "the outer step does not touch a row");
    places[index] = (int32_t)place;
  }
  demand(first <= addends.count, "rows do not fit");
  const Rows rows = {places.data(), ids.count, width};
  demandRows(rows, addends.count - first);
  LOOPS->sum(&rows, sums.data, addends.data + first);
}

void sumAll(const Arguments& arguments) {
  const auto sums = arguments.doubles(0);
  const auto addends = arguments.floats(1);
  demand(sums.count == addends.count, "arrays differ in size");
  LOOPS->sumAll(sums.data, addends.data, sums.count);
}

// sketch(blocks, lanes)
void sketch(const Arguments& arguments) {
  const auto blocks = arguments.bytes(0);
  const auto lanes = arguments.unsignedWords(1);
  constexpr size_t BLOCK = SKETCH_LANES * sizeof(uint32_t);
  demand(blocks.count % BLOCK == 0, "a block is cut off");
  demand(lanes.count == 2 * SKETCH_LANES, "a sketch has 32 words");
  LOOPS->sketch(blocks.data, blocks.count / BLOCK, lanes.data);
}

napi_value init(napi_env env, napi_value exports) {
  defineFunctions(env, exports,
                  {{"gather", calledForEffect<gather>},
                   {"add", calledForEffect<add>},
                   {"addScaled", calledForEffect<addScaled>},
                   {"adam", calledForEffect<adam>},
                   {"sum", calledForEffect<sum>},
                   {"sumAll", calledForEffect<sumAll>},
                   {"sketch", calledForEffect<sketch>}});
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
