// The arguments of a call from JavaScript (Node-API). Reading one that is missing or of another type throws.
#pragma once
#include <node_api.h>
#include <stddef.h>
#include <stdint.h>
#include <stdexcept>
#include <string>
#include <vector>

// An array where it lies. One whose memory was given back has no elements.
template <class Element>
struct View {
  Element* data;
  size_t count;
};

inline void demand(bool holds, const char* otherwise) {
  if (!holds) throw std::runtime_error(otherwise);
}

class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    demand(napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr) == napi_ok, "no arguments");
    demand(count_ <= MAX, "there are too many arguments");
  }

  napi_env env() const { return env_; }
  napi_value value(size_t index) const {
    demand(index < count_, "an argument is missing");
    return values_[index];
  }

  View<uint8_t> bytes(size_t index) const { return array<uint8_t>(value(index), napi_uint8_array); }
  View<uint32_t> unsignedWords(size_t index) const { return array<uint32_t>(value(index), napi_uint32_array); }
  View<int32_t> words(size_t index) const { return wordsOf(value(index)); }
  View<int32_t> wordsOf(napi_value value) const { return array<int32_t>(value, napi_int32_array); }
  View<float> floats(size_t index) const { return array<float>(value(index), napi_float32_array); }
  View<double> doubles(size_t index) const { return array<double>(value(index), napi_float64_array); }

  // An array of any type.
  View<void> elements(napi_value value, napi_typedarray_type* type) const {
    View<void> view{};
    demand(napi_get_typedarray_info(env_, value, type, &view.count, &view.data, nullptr, nullptr) == napi_ok,
           "this is not an array");
    return view;
  }

  double number(size_t index) const { return numberOf(value(index)); }
  size_t wholeNumber(size_t index) const { return wholeNumberOf(value(index)); }
  // Below 2^53, so that a double holds it.
  size_t wholeNumberOf(napi_value value) const {
    const double found = numberOf(value);
    demand(found >= 0 && found <= 9007199254740991.0 && found == (double)(size_t)found, "this is no whole number");
    return (size_t)found;
  }
  bool boolean(size_t index) const {
    bool found = false;
    demand(napi_get_value_bool(env_, value(index), &found) == napi_ok, "this is neither true nor false");
    return found;
  }
  std::string text(size_t index) const { return textOf(value(index)); }
  std::string textOf(napi_value value) const {
    size_t length = 0;
    demand(napi_get_value_string_utf8(env_, value, nullptr, 0, &length) == napi_ok, "this is not a text");
    std::string text(length, '\0');
    demand(napi_get_value_string_utf8(env_, value, &text[0], length + 1, &length) == napi_ok, "this is not a text");
    return text;
  }
  std::vector<napi_value> list(size_t index) const {
    uint32_t length = 0;
    demand(napi_get_array_length(env_, value(index), &length) == napi_ok, "this is not a list");
    std::vector<napi_value> found(length);
    for (uint32_t place = 0; place < length; ++place)
      demand(napi_get_element(env_, values_[index], place, &found[place]) == napi_ok, "this is not a list");
    return found;
  }

 private:
  double numberOf(napi_value value) const {
    double found = 0;
    demand(napi_get_value_double(env_, value, &found) == napi_ok, "this is not a number");
    return found;
  }
  template <class Element>
  View<Element> array(napi_value value, napi_typedarray_type wanted) const {
    napi_typedarray_type type;
    const View<void> found = elements(value, &type);
    demand(type == wanted, "an array is of another type");
    return {static_cast<Element*>(found.data), found.count};
  }

  static constexpr size_t MAX = 20;
  napi_env env_;
  napi_value values_[MAX];
  size_t count_ = MAX;
};

// A function of an addon by its name.
struct ExportedFunction {
  const char* name;
  napi_callback function;
};

template <size_t COUNT>
void defineFunctions(napi_env env, napi_value exports, const ExportedFunction (&functions)[COUNT]) {
  for (const ExportedFunction& each : functions) {
    napi_value function;
    napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.function, nullptr, &function);
    napi_set_named_property(env, exports, each.name, function);
  }
}

// What a function returns, or undefined where it throws a std::exception, which JavaScript throws then.
template <class Function>
napi_value guarded(napi_env env, napi_callback_info info, Function function) {
  try {
    return function(Arguments(env, info));
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
    return nullptr;
  }
}

template <void (*function)(const Arguments&)>
napi_value calledForEffect(napi_env env, napi_callback_info info) {
  return guarded(env, info, [](const Arguments& arguments) {
    function(arguments);
    return static_cast<napi_value>(nullptr);
  });
}

template <napi_value (*function)(const Arguments&)>
napi_value calledForValue(napi_env env, napi_callback_info info) {
  return guarded(env, info, function);
}
