// The Node-API addon: `create(kernel, words, arrays)`, `score(model, ...)` and `release(model)`, mapped files (mapping.h),
// columns of requests (columns/columns.h) and the order of candidates (ranking.h).
#include "../../../shared/tensors/native/arguments.h"
#include "build-model.h"
#include "columns/columns.h"
#include "kernels.h"
#include "mapping.h"
#include "ranking.h"

namespace {

// What the handle of a model points at. Once released, the handle is empty: whatever the model read may
// be unmapped by then.
using Held = std::unique_ptr<BuiltModel>;

void deleteHeld(napi_env, void* data, void*) { delete static_cast<Held*>(data); }

Held* heldOf(const Arguments& arguments, size_t index) {
  void* data = nullptr;
  demand(napi_get_value_external(arguments.env(), arguments.value(index), &data) == napi_ok, "this is not a model");
  return static_cast<Held*>(data);
}

void release(const Arguments& arguments) { heldOf(arguments, 0)->reset(); }

const Kernel* kernelNamed(const std::string& name) {
  for (const Kernel* kernel : runningKernels())
    if (name == kernel->name) return kernel;
  throw std::runtime_error("this machine does not run the kernel");
}

// create(kernel, words, arrays): a handle of the model.
napi_value create(const Arguments& arguments) {
  const Kernel* const kernel = kernelNamed(arguments.text(0));
  const View<int32_t> words = arguments.words(1);
  std::vector<Array> arrays;
  for (napi_value element : arguments.list(2)) {
    napi_typedarray_type type;
    const View<void> view = arguments.elements(element, &type);
    arrays.push_back({view.data, view.count});
  }
  auto held = std::make_unique<Held>(std::make_unique<BuiltModel>(kernel, words.data, words.count, std::move(arrays)));
  napi_value external;
  demand(napi_create_external(arguments.env(), held.get(), deleteHeld, nullptr, &external) == napi_ok,
         "the runtime refuses a handle");
  held.release();
  return external;
}

template <class Element>
const Element* atLeast(View<Element> view, size_t count) {
  demand(view.count >= count, "an array of the request is too short");
  return view.data;
}

// score(model, count, blocks, contextIds, candidateIds, contextNumbers, candidateNumbers, logits): Status.
napi_value score(const Arguments& arguments) {
  const BuiltModel* built = heldOf(arguments, 0)->get();
  demand(built != nullptr, "the model is released");
  const Model* model = built->model();
  const size_t count = arguments.wholeNumber(1);
  demand(count <= INT32_MAX, "there are too many candidates");
  Request request{};
  request.count = int32_t(count);
  request.blocks = atLeast(arguments.words(2), count);
  request.contextIds = atLeast(arguments.words(3), model->contextIdCount);
  request.candidateIds = atLeast(arguments.words(4), count * model->candidateIdCount);
  request.contextNumbers = atLeast(arguments.floats(5), model->contextNumberCount);
  request.candidateNumbers = atLeast(arguments.floats(6), count * model->candidateNumberCount);
  const View<float> logits = arguments.floats(7);
  atLeast(logits, count);
  napi_value status;
  napi_create_int32(arguments.env(), built->kernel()->score(model, &request, logits.data), &status);
  return status;
}

// The names of the kernels that run here, the fastest first.
napi_value kernels(const Arguments& arguments) {
  const napi_env env = arguments.env();
  napi_value names;
  napi_create_array(env, &names);
  uint32_t count = 0;
  for (const Kernel* kernel : runningKernels()) {
    napi_value name;
    napi_create_string_utf8(env, kernel->name, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, names, count++, name);
  }
  return names;
}

napi_value init(napi_env env, napi_value exports) {
  defineFunctions(env, exports,
                  {{"create", calledForValue<create>},
                   {"score", calledForValue<score>},
                   {"release", calledForEffect<release>},
                   {"kernels", calledForValue<kernels>}});
  defineMapping(env, exports);
  defineColumns(env, exports);
  defineRanking(env, exports);
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
