// The Node-API addon: `create(kernel, words, arrays)`, `score(model, ...)` and `release(model)`, and
// mapped files (mapping.h) and columns of requests (columns.h).
#include <node_api.h>
#include <string.h>
#include "../../../shared/tensors/native/processor.h"
#include "build-model.h"
#include "columns.h"
#include "mapping.h"

namespace {

const Kernel* const KERNELS[] = {
#ifdef __x86_64__
    &AVX512_KERNEL, &AVX2_KERNEL,
#endif
    &PORTABLE_KERNEL};

bool runs(const Kernel* kernel) {
#ifdef __x86_64__
  if (kernel == &AVX512_KERNEL) return runsSkylakeAvx512();
  if (kernel == &AVX2_KERNEL) return runsHaswell();
#endif
  return kernel == &PORTABLE_KERNEL;
}

void demand(napi_env env, napi_status status) {
  (void)env;
  if (status != napi_ok) throw std::runtime_error("an argument is of another type");
}

Array typedArray(napi_env env, napi_value value) {
  napi_typedarray_type type;
  Array found{};
  void* data = nullptr;
  demand(env, napi_get_typedarray_info(env, value, &type, &found.count, &data, nullptr, nullptr));
  found.data = data;
  return found;
}

// What the handle of a model points at. Once released, the handle is empty: whatever the model read may
// be unmapped by then.
using Held = std::unique_ptr<BuiltModel>;

void deleteHeld(napi_env, void* data, void*) { delete static_cast<Held*>(data); }

Held* heldOf(napi_env env, napi_value handle) {
  void* data = nullptr;
  demand(env, napi_get_value_external(env, handle, &data));
  return static_cast<Held*>(data);
}

napi_value release(napi_env env, napi_callback_info info) {
  try {
    napi_value arguments[1];
    size_t count = 1;
    demand(env, napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr));
    heldOf(env, arguments[0])->reset();
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  }
  return nullptr;
}

napi_value create(napi_env env, napi_callback_info info) {
  try {
    napi_value arguments[3];
    size_t count = 3;
    demand(env, napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr));
    char name[16];
    size_t length = 0;
    demand(env, napi_get_value_string_utf8(env, arguments[0], name, sizeof name, &length));
    const Kernel* chosen = nullptr;
    for (const Kernel* kernel : KERNELS)
      if (chosen == nullptr && strcmp(kernel->name, name) == 0 && runs(kernel)) chosen = kernel;
    if (chosen == nullptr) throw std::runtime_error("this machine does not run the kernel");
    const Array words = typedArray(env, arguments[1]);
    uint32_t arrayCount = 0;
    demand(env, napi_get_array_length(env, arguments[2], &arrayCount));
    std::vector<Array> arrays(arrayCount);
    for (uint32_t index = 0; index < arrayCount; ++index) {
      napi_value element;
      demand(env, napi_get_element(env, arguments[2], index, &element));
      arrays[index] = typedArray(env, element);
    }
    auto held = std::make_unique<Held>(
        std::make_unique<BuiltModel>(chosen, static_cast<const int32_t*>(words.data), words.count, std::move(arrays)));
    napi_value external;
    demand(env, napi_create_external(env, held.get(), deleteHeld, nullptr, &external));
    held.release();
    return external;
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
    return nullptr;
  }
}

// score(model, count, blocks, contextIds, candidateIds, contextNumbers, candidateNumbers, logits): Status.
napi_value score(napi_env env, napi_callback_info info) {
  try {
    napi_value arguments[8];
    size_t argumentCount = 8;
    demand(env, napi_get_cb_info(env, info, &argumentCount, arguments, nullptr, nullptr));
    const BuiltModel* built = heldOf(env, arguments[0])->get();
    if (built == nullptr) throw std::runtime_error("the model is released");
    const Model* model = built->model();
    Request request{};
    demand(env, napi_get_value_int32(env, arguments[1], &request.count));
    const size_t count = request.count < 0 ? 0 : request.count;
    const size_t wanted[] = {count, size_t(model->contextIdCount), count * model->candidateIdCount,
                             size_t(model->contextNumberCount), count * model->candidateNumberCount, count};
    Array found[6];
    for (int index = 0; index < 6; ++index) {
      found[index] = typedArray(env, arguments[2 + index]);
      if (found[index].count < wanted[index]) throw std::runtime_error("an array of the request is too short");
    }
    request.blocks = static_cast<const int32_t*>(found[0].data);
    request.contextIds = static_cast<const int32_t*>(found[1].data);
    request.candidateIds = static_cast<const int32_t*>(found[2].data);
    request.contextNumbers = static_cast<const float*>(found[3].data);
    request.candidateNumbers = static_cast<const float*>(found[4].data);
    float* logits = static_cast<float*>(const_cast<void*>(found[5].data));
    napi_value status;
    demand(env, napi_create_int32(env, built->kernel()->score(model, &request, logits), &status));
    return status;
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
    return nullptr;
  }
}

// The names of the kernels that run here, the fastest first.
napi_value kernels(napi_env env, napi_callback_info) {
  napi_value names;
  napi_create_array(env, &names);
  uint32_t count = 0;
  for (const Kernel* kernel : KERNELS) {
    if (!runs(kernel)) continue;
    napi_value name;
    napi_create_string_utf8(env, kernel->name, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, names, count++, name);
  }
  return names;
}

napi_value init(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback function;
  } functions[] = {{"create", create}, {"score", score}, {"release", release}, {"kernels", kernels}};
  for (const auto& each : functions) {
    napi_value function;
    napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.function, nullptr, &function);
    napi_set_named_property(env, exports, each.name, function);
  }
  defineMapping(env, exports);
  defineColumns(env, exports);
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
