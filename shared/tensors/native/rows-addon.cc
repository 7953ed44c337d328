// The Node-API addon of the loops in rows.h. Arguments are checked before anything is written.
#include <node_api.h>
#include <stdexcept>
#include <string>
#include <vector>
#include "processor.h"
#include "rows.h"

namespace {

#ifdef __x86_64__
const RowLoops* const LOOPS = runsHaswell() ? &HASWELL_ROWS : &PORTABLE_ROWS;
#else
const RowLoops* const LOOPS = &PORTABLE_ROWS;
#endif

template <class Value>
struct Array {
  Value* data;
  size_t count;
};

void demand(bool isTrue, const char* what) {
  if (!isTrue) throw std::runtime_error(what);
}

class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    demand(napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr) == napi_ok, "no arguments");
  }

  Array<float> floats() { return array<float>(napi_float32_array); }
  Array<double> doubles() { return array<double>(napi_float64_array); }
  Array<int32_t> ints() { return array<int32_t>(napi_int32_array); }

  double number() {
    double found = 0;
    demand(napi_get_value_double(env_, next(), &found) == napi_ok, "an argument is no number");
    return found;
  }

  size_t wholeNumber() {
    const double found = number();
    demand(found >= 0 && found <= 9007199254740991.0 && found == (double)(size_t)found, "an argument is no whole number");
    return (size_t)found;
  }

 private:
  napi_value next() {
    demand(place_ < count_ && place_ < MAX, "an argument is missing");
    return values_[place_++];
  }

  template <class Value>
  Array<Value> array(napi_typedarray_type wanted) {
    napi_typedarray_type type;
    size_t count = 0;
    void* data = nullptr;
    const napi_status status = napi_get_typedarray_info(env_, next(), &type, &count, &data, nullptr, nullptr);
    demand(status == napi_ok && type == wanted, "an argument is an array of another type");
    return {static_cast<Value*>(data), count};
  }

  static constexpr size_t MAX = 8;
  napi_env env_;
  napi_value values_[MAX];
  size_t count_ = MAX;
  size_t place_ = 0;
};

// Rows of a table of `elementCount` elements; all ids are compared with it.
Rows rowsOf(Array<int32_t> ids, size_t width, size_t elementCount) {
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

void gather(Arguments& arguments) {
  const auto table = arguments.floats();
  const size_t width = arguments.wholeNumber();
  const Rows rows = rowsOf(arguments.ints(), width, table.count);
  const auto target = arguments.floats();
  const size_t first = arguments.wholeNumber();
  demand(first <= target.count, "rows do not fit");
  demandRows(rows, target.count - first);
  LOOPS->gather(&rows, table.data, target.data + first);
}

void add(Arguments& arguments) {
  const auto table = arguments.floats();
  const size_t width = arguments.wholeNumber();
  const Rows rows = rowsOf(arguments.ints(), width, table.count);
  const auto addends = arguments.floats();
  demandRows(rows, addends.count);
  LOOPS->add(&rows, table.data, addends.data);
}

void addScaled(Arguments& arguments) {
  const auto table = arguments.floats();
  const size_t width = arguments.wholeNumber();
  const Rows rows = rowsOf(arguments.ints(), width, table.count);
  const auto updates = arguments.floats();
  demandRows(rows, updates.count);
  LOOPS->addScaled(&rows, updates.data, table.data, arguments.number());
}

void adam(Arguments& arguments) {
  const auto first = arguments.floats();
  const size_t width = arguments.wholeNumber();
  const Rows rows = rowsOf(arguments.ints(), width, first.count);
  const auto second = arguments.floats();
  demand(second.count == first.count, "moments differ in size");
  const auto directions = arguments.floats();
  demandRows(rows, directions.count);
  const auto factors = arguments.doubles();
  demand(factors.count == 5, "a step of Adam has five factors");
  const double* f = factors.data;
  const AdamFactors step = {f[0], f[1], f[2], f[3], f[4]};
  LOOPS->adam(&rows, directions.data, first.data, second.data, &step);
}

// sum(sums, width, sumIds, ids, addends, first): both lists of ids ascend, and sumIds has every id.
void sum(Arguments& arguments) {
  const auto sums = arguments.doubles();
  const size_t width = arguments.wholeNumber();
  const auto sumIds = arguments.ints();
  const auto ids = arguments.ints();
  const auto addends = arguments.floats();
  const size_t first = arguments.wholeNumber();
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

void sumAll(Arguments& arguments) {
  const auto sums = arguments.doubles();
  const auto addends = arguments.floats();
  demand(sums.count == addends.count, "arrays differ in size");
  LOOPS->sumAll(sums.data, addends.data, sums.count);
}

template <void (*Function)(Arguments&)>
napi_value called(napi_env env, napi_callback_info info) {
  try {
    Arguments arguments(env, info);
    Function(arguments);
  } catch (const std::exception& error) {
    napi_throw_range_error(env, nullptr, error.what());
  }
  return nullptr;
}

napi_value init(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback function;
  } functions[] = {{"gather", called<gather>}, {"add", called<add>}, {"addScaled", called<addScaled>},
                   {"adam", called<adam>},     {"sum", called<sum>}, {"sumAll", called<sumAll>}};
  for (const auto& each : functions) {
    napi_value function;
    napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.function, nullptr, &function);
    napi_set_named_property(env, exports, each.name, function);
  }
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
