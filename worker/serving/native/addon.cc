// The Node-API addon: `create(kernel, words, arrays)`, `score(model, ...)`, `adapt(model, ...)` and `release(model)`, mapped files, columns of
// requests and the order of candidates (addon.h).
#include "addon.h"
#include <algorithm>
#include <memory>
#include <stdexcept>
#include "../../../shared/tensors/native/arguments.h"
#include "../../../shared/tensors/native/posterior.h"
#include "../../../shared/tensors/native/processor.h"

namespace {

const Kernel* const KERNELS[] = {
#ifdef __x86_64__
    &AVX2_KERNEL,
#endif
    &PORTABLE_KERNEL};

bool runs(const Kernel* kernel) {
#ifdef __x86_64__
  if (kernel == &AVX2_KERNEL) return runsHaswell();
#endif
  return kernel == &PORTABLE_KERNEL;
}

}  // namespace

// Asked once: a virtual machine takes tens of microseconds to say.
const std::vector<const Kernel*>& runningKernels() {
  static const std::vector<const Kernel*> running = [] {
    std::vector<const Kernel*> found;
    for (const Kernel* kernel : KERNELS)
      if (runs(kernel)) found.push_back(kernel);
    return found;
  }();
  return running;
}

// A model built from its description: words, as `kernel-scorer.ts` writes them, and the arrays
// that they refer to by index. Everything is checked here, so that a request reads within bounds.
struct Array {
  const void* data;
  size_t count;  // Elements.
};

struct AlignedFloats {
  std::vector<float> room;
  float* data;
  explicit AlignedFloats(size_t count) : room(count + 16) {
    const uintptr_t address = (uintptr_t)room.data();
    data = room.data() + (64 - address % 64) % 64 / 4;
  }
};

class BuiltModel {
 public:
  BuiltModel(const Kernel* kernel, const int32_t* words, size_t wordCount, std::vector<Array> arrays);
  const Model* model() const { return &model_; }
  const Kernel* kernel() const { return kernel_; }

 private:
  int32_t word();
  int32_t count(int32_t max);
  const Array* array();
  const float* floats(size_t count);
  std::vector<int32_t> places(int32_t max, int32_t each);
  void readFields();
  void readParts();
  void readBlocks();
  void readTower();
  void readOutput();
  void readVariances();
  void readCrowds();
  Products readProducts(std::vector<int32_t>* room);
  Layer readLayer(size_t inCount, bool hasRelu);
  void holds(int32_t index, size_t count) const;
  const Part* part(int32_t index, size_t count) const;
  void placeColumns();
  void allocateScratch();
  float* room(size_t count);
  size_t padded(size_t count) const;

  const Kernel* kernel_;
  const int32_t* words_;
  const int32_t* wordsEnd_;
  std::vector<Array> arrays_;
  Model model_{};
  std::vector<Field> fields_;
  std::vector<Part> parts_;
  std::vector<const uint8_t*> shards_;
  std::vector<Layer> hidden_, cross_;
  std::vector<int32_t> towerFields_, inputPlaces_, outputPlaces_;
  // The row of the weights of each input column of the layers that read fields.
  std::vector<int32_t> columnRows_;
  std::vector<std::unique_ptr<AlignedFloats>> rooms_;
};

namespace {
constexpr int32_t WIDTH_MAX = 1 << 16;
}  // namespace

int32_t BuiltModel::word() {
  demand(words_ < wordsEnd_, "the description ends early");
  return *words_++;
}

int32_t BuiltModel::count(int32_t max) {
  const int32_t found = word();
  demand(found >= 0 && found <= max, "a count is out of bounds");
  return found;
}

const Array* BuiltModel::array() {
  const int32_t index = word();
  if (index == -1) return nullptr;
  demand(index >= 0 && (size_t)index < arrays_.size(), "there is no such array");
  return &arrays_[index];
}

const float* BuiltModel::floats(size_t count) {
  const Array* found = array();
  demand(found != nullptr && found->count >= count, "an array is too short");
  return static_cast<const float*>(found->data);
}

std::vector<int32_t> BuiltModel::places(int32_t max, int32_t each) {
  std::vector<int32_t> found(size_t(count(max)) * each);
  for (int32_t& place : found) {
    place = word();
    demand(place >= 0 && place < model_.fieldCount, "there is no such field");
  }
  return found;
}

float* BuiltModel::room(size_t count) {
  rooms_.push_back(std::make_unique<AlignedFloats>(count));
  return rooms_.back()->data;
}

size_t BuiltModel::padded(size_t count) const {
  const size_t vector = kernel_->vectorFloats;
  return (count + vector - 1) / vector * vector;
}

BuiltModel::BuiltModel(const Kernel* kernel, const int32_t* words, size_t wordCount, std::vector<Array> arrays)
    : kernel_(kernel), words_(words), wordsEnd_(words + wordCount), arrays_(std::move(arrays)) {
  model_.width = count(WIDTH_MAX);
  model_.rowWidth = count(WIDTH_MAX);
  model_.hasLinear = count(1);
  model_.hasPairTerm = count(1);
  model_.isPadded = count(1);
  model_.contextIdCount = count(WIDTH_MAX);
  model_.candidateIdCount = count(WIDTH_MAX);
  model_.contextNumberCount = count(WIDTH_MAX);
  model_.candidateNumberCount = count(WIDTH_MAX);
  demand(model_.rowWidth == model_.width + model_.hasLinear, "a table row is a vector and a linear weight");
  readParts();
  readFields();
  readBlocks();
  readTower();
  readOutput();
  readVariances();
  readCrowds();
  demand(words_ == wordsEnd_, "the description is too long");
  allocateScratch();
}

void BuiltModel::readParts() {
  parts_.resize(count(WIDTH_MAX));
  for (Part& part : parts_) {
    part.encoding = count(FLOAT16);
    part.byteOffset = count(INT32_MAX);
    part.count = count(INT32_MAX);
  }
  model_.parts = parts_.data();
}

void BuiltModel::readFields() {
  const int32_t fieldCount = count(FIELDS_MAX);
  model_.fieldCount = fieldCount;
  fields_.resize(fieldCount);
  for (Field& field : fields_) {
    field.source = count(FROM_BLOCK);
    field.isFactorised = count(1);
    field.column = -1;
    if (field.source == FROM_BLOCK) {
      field.part = word();
      field.hasLinear = count(1);
      part(field.part, model_.width + field.hasLinear);
      continue;
    }
    field.isContext = count(1);
    field.firstPlace = count(WIDTH_MAX);
    field.placeCount = count(WIDTH_MAX);
    const bool isNumber = field.source == FROM_NUMBER;
    const int32_t end = field.isContext ? (isNumber ? model_.contextNumberCount : model_.contextIdCount)
                                        : (isNumber ? model_.candidateNumberCount : model_.candidateIdCount);
    demand(field.firstPlace + field.placeCount <= end, "a feature lies beyond the request");
    if (isNumber) {
      const int32_t number = field.number = count(WIDTH_MAX);
      const Array* factors = array();
      const Array* linear = array();
      if (model_.width > 0) {
        demand(factors != nullptr && factors->count >= size_t(number + 1) * model_.width, "no factors");
        field.values = static_cast<const float*>(factors->data) + size_t(number) * model_.width;
      }
      if (model_.hasLinear) {
        demand(linear != nullptr && linear->count > size_t(number), "no linear weights");
        field.linear = static_cast<const float*>(linear->data)[number];
      }
      field.factorsPart = word();
      field.linearPart = word();
      if (field.factorsPart >= 0) holds(field.factorsPart, size_t(number + 1) * model_.width);
      if (field.linearPart >= 0) holds(field.linearPart, size_t(number + 1));
      field.readsContext = field.isContext;
      if (field.factorsPart >= 0 || field.linearPart >= 0) field.isContext = 0;
      continue;
    }
    const Array* table = array();
    demand(table != nullptr && table->count % model_.rowWidth == 0, "a table has whole rows");
    field.values = static_cast<const float*>(table->data);
    field.rowCount = table->count / model_.rowWidth;
  }
  model_.fields = fields_.data();
}

const Part* BuiltModel::part(int32_t index, size_t count) const {
  demand(index >= 0 && size_t(index) < parts_.size(), "there is no such part");
  demand(size_t(parts_[index].count) == count, "a part has another number of values");
  return &parts_[index];
}

void BuiltModel::holds(int32_t index, size_t count) const {
  demand(size_t(index) < parts_.size(), "there is no such part");
  demand(size_t(parts_[index].count) >= count, "a part is too short");
}

void BuiltModel::readBlocks() {
  model_.strideByteCount = count(INT32_MAX);
  model_.shardShift = count(31);
  model_.blockCount = count(INT32_MAX);
  demand(model_.strideByteCount > 0 && model_.strideByteCount % 64 == 0, "a stride is a multiple of 64");
  for (const Part& part : parts_) {
    const int64_t size = part.encoding == FLOAT32 ? 4 : 2;
    demand(part.byteOffset + size * part.count <= model_.strideByteCount, "a part ends beyond its block");
  }
  int64_t left = model_.blockCount;
  for (int32_t shards = count(WIDTH_MAX); shards > 0; --shards) {
    const Array* shard = array();
    const int64_t blocks = std::min<int64_t>(left, int64_t(1) << model_.shardShift);
    demand(shard != nullptr && shard->count >= size_t(blocks) * model_.strideByteCount, "a shard is too short");
    shards_.push_back(static_cast<const uint8_t*>(shard->data));
    left -= blocks;
  }
  demand(left == 0 && !shards_.empty(), "blocks are missing");
  model_.shards = shards_.data();
  model_.biasPart = word();
  if (model_.biasPart >= 0) demand(part(model_.biasPart, 1)->encoding == FLOAT32, "a bias is a float32");
  else model_.bias = floats(1)[0];
}

Products BuiltModel::readProducts(std::vector<int32_t>* room) {
  std::vector<int32_t> pairs = places(WIDTH_MAX, 2);
  const std::vector<int32_t> byField = places(WIDTH_MAX, 1);
  Products products{};
  products.hasOuter = count(1);
  products.pairCount = int32_t(pairs.size() / 2);
  products.byFieldCount = int32_t(byField.size());
  products.count = products.pairCount + products.byFieldCount + (products.hasOuter ? model_.width * model_.width : 0);
  *room = std::move(pairs);
  room->insert(room->end(), byField.begin(), byField.end());
  products.pairs = room->data();
  products.byField = room->data() + size_t(products.pairCount) * 2;
  return products;
}

// Layers over shared fields read the context first, so that it is added up once.
void BuiltModel::placeColumns() {
  const int32_t width = model_.width;
  const bool contextFirst = count(1);
  std::vector<int32_t> order;
  for (int pass = 0; pass < (contextFirst ? 2 : 1); ++pass)
    for (size_t place = 0; place < towerFields_.size(); ++place) {
      const Field& field = fields_[towerFields_[place]];
      if (!contextFirst || field.isContext == (pass == 0 ? 1 : 0)) order.push_back(int32_t(place));
    }
  for (int32_t place : order) {
    Field& field = fields_[towerFields_[place]];
    field.column = int32_t(columnRows_.size());
    if (contextFirst && field.isContext) model_.contextColumns += width;
    for (int32_t k = 0; k < width; ++k) columnRows_.push_back(place * width + k);
  }
  model_.inputColumns = int32_t(columnRows_.size());
}

// Weights [inCount, outCount] as panels: all rows of the first columns, then all rows of the next ones.
Layer BuiltModel::readLayer(size_t inCount, bool hasRelu) {
  const bool readsFields = count(1);
  const bool writesFields = count(1);
  Layer layer{};
  layer.inCount = int32_t(inCount);
  layer.outCount = count(WIDTH_MAX);
  layer.outPadded = int32_t(padded(layer.outCount));
  layer.hasRelu = hasRelu;
  const size_t outCount = layer.outCount;
  const float* weights = floats(inCount * outCount);
  const Array* bias = array();
  layer.weightPart = word();
  layer.biasPart = word();
  if (layer.weightPart >= 0) part(layer.weightPart, inCount * outCount), part(layer.biasPart, outCount);
  const auto rowOf = [this](bool isOfFields, size_t place) {
    return isOfFields && place < columnRows_.size() ? size_t(columnRows_[place]) : place;
  };
  float* packed = room(inCount * layer.outPadded);
  float* to = packed;
  for (int32_t column = 0; column < layer.outPadded; column += kernel_->panelFloats)
    for (size_t k = 0; k < inCount; ++k)
      for (int32_t j = column; j < layer.outPadded && j < column + kernel_->panelFloats; ++j)
        *to++ = j < layer.outCount ? weights[rowOf(readsFields, k) * outCount + rowOf(writesFields, j)] : 0;
  layer.packed = packed;
  float* ownBias = room(layer.outPadded);
  if (bias != nullptr) {
    demand(bias->count >= outCount, "a bias is too short");
    for (size_t j = 0; j < outCount; ++j) ownBias[j] = static_cast<const float*>(bias->data)[rowOf(writesFields, j)];
  }
  layer.bias = ownBias;
  return layer;
}

void BuiltModel::readTower() {
  towerFields_ = places(FIELDS_MAX, 1);
  placeColumns();
  model_.needsContextColumns = count(1);
  model_.inputProducts = readProducts(&inputPlaces_);
  model_.crossLayerCount = count(64);
  model_.crossRank = count(WIDTH_MAX);
  const size_t columns = model_.inputColumns;
  for (int32_t l = 0; l < model_.crossLayerCount; ++l) {
    cross_.push_back(readLayer(columns, false));
    if (model_.crossRank > 0) cross_.push_back(readLayer(model_.crossRank, false));
    demand(size_t(cross_.back().outCount) == columns, "a cross layer keeps its width");
  }
  model_.cross = cross_.data();
  model_.hasTower = count(1);
  model_.towerReadsCrossed = count(1);
  model_.hiddenCount = count(64);
  size_t width = columns + (model_.towerReadsCrossed ? 0 : model_.inputProducts.count);
  for (int32_t l = 0; l < model_.hiddenCount; ++l) {
    hidden_.push_back(readLayer(width, true));
    width = hidden_.back().outCount;
  }
  model_.hidden = hidden_.data();
}

void BuiltModel::readOutput() {
  model_.hasOutput = count(1);
  model_.hasCrossed = count(1);
  model_.outputProducts = readProducts(&outputPlaces_);
  model_.outputPart = -1;
  if (!model_.hasOutput) return;
  const size_t columns = model_.inputColumns;
  size_t inCount = model_.outputProducts.count + (model_.hasCrossed ? columns : 0);
  if (model_.hasTower)
    inCount += model_.hiddenCount > 0 ? hidden_.back().outCount
                                      : columns + (model_.towerReadsCrossed ? 0 : model_.inputProducts.count);
  const bool readsFields = count(1);
  const float* weights = floats(inCount);
  model_.outputPart = word();
  if (model_.outputPart >= 0) part(model_.outputPart, inCount);
  float* own = room(inCount);
  for (size_t k = 0; k < inCount; ++k) own[k] = weights[readsFields && k < columns ? columnRows_[k] : k];
  model_.output = own;
}

// They are those of the bias and of the output weights that are personal.
void BuiltModel::readVariances() {
  model_.variancesPart = word();
  model_.slopeCount = (model_.biasPart >= 0 ? 1 : 0) + (model_.outputPart >= 0 ? parts_[model_.outputPart].count : 0);
  model_.fieldWidth = model_.fieldCount * model_.rowWidth;
  if (model_.variancesPart >= 0) part(model_.variancesPart, model_.slopeCount);
}

void BuiltModel::readCrowds() {
  if (!count(1)) return;
  model_.crowdIsContext = count(1);
  model_.crowdPlace = count(WIDTH_MAX);
  const Array* modes = array();
  const Array* variances = array();
  demand(model_.variancesPart >= 0 && model_.slopeCount > 0, "blocks of crowds have variances");
  size_t rowCount = 0;
  for (const Field& field : fields_)
    if (field.source == FROM_IDS && field.isContext == model_.crowdIsContext && field.firstPlace == model_.crowdPlace)
      rowCount = field.rowCount;
  const size_t size = rowCount * model_.slopeCount;
  demand(rowCount > 0, "crowds are values of a category");
  demand(modes != nullptr && modes->count == size, "blocks of crowds do not fit");
  demand(variances != nullptr && variances->count == size, "blocks of crowds do not fit");
  model_.crowdModes = static_cast<const float*>(modes->data);
  model_.crowdVariances = static_cast<const float*>(variances->data);
}

void BuiltModel::allocateScratch() {
  const size_t width = model_.width;
  const size_t inputCount = model_.inputColumns + model_.inputProducts.count;
  model_.inputStride = int32_t((inputCount + 31) / 16 * 16);
  size_t widest = std::max<size_t>(inputCount, model_.outputProducts.count);
  for (const std::vector<Layer>* layers : {&hidden_, &cross_})
    for (const Layer& layer : *layers) widest = std::max<size_t>(widest, std::max(layer.inCount, layer.outPadded));
  for (const Part& part : parts_) if (part.count <= WIDTH_MAX) widest = std::max<size_t>(widest, part.count);
  model_.scratchStride = int32_t((widest + 31) / 16 * 16);
  const size_t rows = TILE_ROWS * size_t(model_.inputStride) * 3 + TILE_ROWS * size_t(model_.scratchStride) * 4;
  const size_t vectors = (model_.fieldCount + 1) * (2 * width + 32) + 4 * (width + 16);
  model_.scratch = room(rows + vectors + 5 * size_t(model_.scratchStride) + 64 * 16);
}

namespace {

// The handle of a model points at this. Once released, the handle is empty: memory that the model read may
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
Element* atLeast(View<Element> view, size_t count) {
  demand(view.count >= count, "an array of the request is too short");
  return view.data;
}

const BuiltModel* builtOf(const Arguments& arguments) {
  const BuiltModel* built = heldOf(arguments, 0)->get();
  demand(built != nullptr, "the model is released");
  return built;
}

// Reads model, count, blocks, contextIds, candidateIds, contextNumbers and candidateNumbers.
Request requestOf(const Arguments& arguments, const Model* model) {
  const size_t count = arguments.wholeNumber(1);
  demand(count <= INT32_MAX, "there are too many candidates");
  Request request{};
  request.count = int32_t(count);
  request.blocks = atLeast(arguments.words(2), count);
  request.contextIds = atLeast(arguments.words(3), model->contextIdCount);
  request.candidateIds = atLeast(arguments.words(4), count * model->candidateIdCount);
  request.contextNumbers = atLeast(arguments.floats(5), model->contextNumberCount);
  request.candidateNumbers = atLeast(arguments.floats(6), count * model->candidateNumberCount);
  return request;
}

napi_value scored(const Arguments& arguments, const BuiltModel* built, const Request& request, float* logits) {
  napi_value status;
  napi_create_int32(arguments.env(), built->kernel()->score(built->model(), &request, logits), &status);
  return status;
}

// score(the request, logits, variances or none): Status.
napi_value score(const Arguments& arguments) {
  const BuiltModel* built = builtOf(arguments);
  Request request = requestOf(arguments, built->model());
  const View<float> variances = arguments.floats(8);
  if (variances.count > 0) request.variances = atLeast(variances, request.count);
  return scored(arguments, built, request, atLeast(arguments.floats(7), request.count));
}

// adapt(the rows as a request, clicks, impressions, means, precisions, weights of fields or none, numbers, mode, variances):
// Status. Blocks of the rows are zeros, so that their logits are what the posterior adds to.
napi_value adapt(const Arguments& arguments) {
  const BuiltModel* built = builtOf(arguments);
  const Model* model = built->model();
  Request request = requestOf(arguments, model);
  const size_t rows = request.count, count = model->slopeCount;
  const View<float> fieldWeights = arguments.floats(11);
  const double* numbers = atLeast(arguments.doubles(12), 6);
  std::vector<float> logits(rows), slopes(rows * count), fields(fieldWeights.count > 0 ? rows * model->fieldWidth : 0);
  request.slopes = slopes.data();
  if (fieldWeights.count > 0) request.fields = fields.data();
  Posterior posterior{};
  posterior.rows = {rows, count, slopes.data(), logits.data(), atLeast(arguments.floats(7), rows),
                    atLeast(arguments.floats(8), rows), numbers[0] != 0};
  posterior.prior = {atLeast(arguments.floats(9), count), atLeast(arguments.floats(10), count)};
  if (fieldWeights.count > 0) {
    posterior.prior.fieldWeights = atLeast(fieldWeights, model->fieldWidth * count);
    posterior.prior.fields = fields.data();
    posterior.prior.fieldWidth = model->fieldWidth;
  }
  posterior.stepCount = size_t(numbers[1]);
  posterior.factor = numbers[2];
  posterior.prior.shrinkage = numbers[3];
  posterior.stepLengthMax = numbers[4];
  posterior.precisionMin = numbers[5];
  float* mode = atLeast(arguments.floats(13), count);
  float* variances = atLeast(arguments.floats(14), count);
  napi_value status = scored(arguments, built, request, logits.data());
  posterior.solve(mode, variances);
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
                   {"adapt", calledForValue<adapt>},
                   {"release", calledForEffect<release>},
                   {"kernels", calledForValue<kernels>}});
  defineMapping(env, exports);
  defineColumns(env, exports);
  defineRanking(env, exports);
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
