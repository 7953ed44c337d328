// QianmoSumRows, an operation for TensorFlow on CPUs, by its C API (tensorflow/c/ops.h, kernels.h):
// row i of `rows`, which are laid end to end, is added to row `places[i]` of the result, in order of i;
// rows of negative places are passed over. UnsortedSegmentSum gives the same bits, but spends more time
// on each row's overhead than on adding the few numbers of an embedding, and takes one tensor, so that
// micro-batches would have to be joined first.

#include <cstdint>
#include <cstring>

#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_datatype.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

// Of tensorflow/c/kernels.h, which takes headers of half the library along.
extern "C" {
struct TF_KernelBuilder;
struct TF_OpKernelConstruction;
struct TF_OpKernelContext;
TF_KernelBuilder* TF_NewKernelBuilder(const char* op_name, const char* device_name,
                                      void* (*create_func)(TF_OpKernelConstruction*),
                                      void (*compute_func)(void*, TF_OpKernelContext*),
                                      void (*delete_func)(void*));
void TF_RegisterKernelBuilder(const char* kernel_name, TF_KernelBuilder* builder,
                              TF_Status* status);
int TF_NumInputs(TF_OpKernelContext* context);
void TF_GetInput(TF_OpKernelContext* context, int index, TF_Tensor** tensor, TF_Status* status);
TF_Tensor* TF_AllocateOutput(TF_OpKernelContext* context, int index, TF_DataType type,
                             const int64_t* dims, int num_dims, size_t len, TF_Status* status);
void TF_OpKernelContext_Failure(TF_OpKernelContext* context, TF_Status* status);
}

namespace {

constexpr char kName[] = "QianmoSumRows";
constexpr int kPlaces = 0;
constexpr int kCount = 1;
constexpr int kFirstRows = 2;

// One input of a running operation, let go of at the end of the scope.
class Input {
 public:
  Input(TF_OpKernelContext* context, int index, TF_Status* status) {
    TF_GetInput(context, index, &tensor_, status);
  }
  ~Input() {
    if (tensor_ != nullptr) TF_DeleteTensor(tensor_);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  int rank() const { return TF_NumDims(tensor_); }
  int64_t length(int axis) const { return TF_Dim(tensor_, axis); }
  template <typename Element>
  const Element* data() const {
    return static_cast<const Element*>(TF_TensorData(tensor_));
  }

 private:
  TF_Tensor* tensor_ = nullptr;
};

void Refuse(TF_Status* status, const char* message) {
  TF_SetStatus(status, TF_INVALID_ARGUMENT, message);
}

// Adds rows `[rowCount, width]` to rows of `sums` `[sumCount, width]`; false if a place lies beyond.
bool AddRows(const float* rows, int64_t rowCount, int64_t width, const int32_t* places,
             int64_t sumCount, float* sums) {
  for (int64_t row = 0; row < rowCount; ++row) {
    const int64_t place = places[row];
    if (place >= sumCount) return false;
    if (place < 0) continue;
    const float* __restrict from = rows + row * width;
    float* __restrict to = sums + place * width;
    for (int64_t column = 0; column < width; ++column) to[column] += from[column];
  }
  return true;
}

void Sum(TF_OpKernelContext* context, TF_Status* status) {
  const Input places(context, kPlaces, status);
  if (TF_GetCode(status) != TF_OK) return;
  const Input count(context, kCount, status);
  if (TF_GetCode(status) != TF_OK) return;
  const Input first(context, kFirstRows, status);
  if (TF_GetCode(status) != TF_OK) return;
  if (places.rank() != 1 || count.rank() != 0 || first.rank() != 2)
    return Refuse(status, "QianmoSumRows: expected places [n], a scalar count and rows [n, width]");
  const int64_t width = first.length(1);
  const int64_t sumCount = *count.data<int32_t>();
  if (sumCount < 0) return Refuse(status, "QianmoSumRows: the count is negative");
  const int64_t shape[] = {sumCount, width};
  const size_t size = sumCount * width * sizeof(float);
  TF_Tensor* output = TF_AllocateOutput(context, 0, TF_FLOAT, shape, 2, size, status);
  if (TF_GetCode(status) != TF_OK) return;
  float* sums = static_cast<float*>(TF_TensorData(output));
  if (size > 0) std::memset(sums, 0, size);
  int64_t done = 0;
  for (int index = kFirstRows; index < TF_NumInputs(context); ++index) {
    const Input rows(context, index, status);
    if (TF_GetCode(status) != TF_OK) break;
    const bool fits = rows.rank() == 2 && rows.length(1) == width &&
                      done + rows.length(0) <= places.length(0);
    if (!fits) {
      Refuse(status, "QianmoSumRows: rows differ in width, or are more than there are places");
      break;
    }
    const int32_t* own = places.data<int32_t>() + done;
    if (!AddRows(rows.data<float>(), rows.length(0), width, own, sumCount, sums)) {
      Refuse(status, "QianmoSumRows: a place is not below the count");
      break;
    }
    done += rows.length(0);
  }
  if (TF_GetCode(status) == TF_OK && done != places.length(0))
    Refuse(status, "QianmoSumRows: there are more places than rows");
  TF_DeleteTensor(output);
}

void Compute(void*, TF_OpKernelContext* context) {
  TF_Status* status = TF_NewStatus();
  Sum(context, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelContext_Failure(context, status);
  TF_DeleteStatus(status);
}

void LeaveShapeOpen(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

// Registers when the addon is loaded. Fails only if it was registered before, which is as good.
const bool registered = [] {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(kName);
  TF_OpDefinitionBuilderAddInput(definition, "places: int32");
  TF_OpDefinitionBuilderAddInput(definition, "count: int32");
  TF_OpDefinitionBuilderAddInput(definition, "rows: N * float");
  TF_OpDefinitionBuilderAddOutput(definition, "sums: float");
  TF_OpDefinitionBuilderAddAttr(definition, "N: int >= 1");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, &LeaveShapeOpen);
  TF_RegisterOpDefinition(definition, status);
  if (TF_GetCode(status) == TF_OK) {
    TF_KernelBuilder* kernel = TF_NewKernelBuilder(kName, "CPU", nullptr, &Compute, nullptr);
    TF_RegisterKernelBuilder(kName, kernel, status);
  }
  const bool isRegistered = TF_GetCode(status) == TF_OK;
  TF_DeleteStatus(status);
  return isRegistered;
}();

}  // namespace
