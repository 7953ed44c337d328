// The options of the sessions that captured graphs run in. The addon asks TensorFlow for default ones
// and knows no others; it is compiled with this function in the place of that one.
//
// TensorFlow optimizes a graph when it first runs, which by default takes longer than all else that
// making a graph costs. On a CPU only what has an effect on rewritten graphs stays: constants are
// folded, sums and products associated, equal nodes made one. These three decide in what order
// numbers are added, hence the bits of results, and those are the same as with default options.
//
// A process for portable jobs runs graphs as they are. The optimizer would turn x / sqrt(y) and
// x / constant into products with approximated reciprocals, whose bits are those of the processor.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tensorflow/c/c_api.h"

namespace {

// Fields of ConfigProto, GraphOptions and RewriterConfig (tensorflow/core/protobuf).
constexpr int kGraphOptions = 10;
constexpr int kRewriteOptions = 10;
constexpr int kPrunesNot = 2;
constexpr int kMemoryOptimization = 4;
constexpr int kOptimizesNotByTfg = 32;
constexpr int kOptimizesNot = 19;
// Layout, dependencies, loops, functions, shapes, remapping, scoped allocators, pinning to the host,
// selection of implementations, motion out of conditionals.
constexpr int kSwitches[] = {1, 8, 9, 10, 13, 14, 15, 18, 22, 30};
constexpr uint32_t kSwitchOff = 2;
constexpr uint32_t kNoMemoryOptimization = 1;

void AppendNumber(std::string* bytes, uint32_t number) {
  for (; number >= 0x80; number >>= 7) bytes->push_back(static_cast<char>(number | 0x80));
  bytes->push_back(static_cast<char>(number));
}

void AppendField(std::string* bytes, int field, uint32_t value) {
  AppendNumber(bytes, field << 3);
  AppendNumber(bytes, value);
}

std::string Message(int field, const std::string& content) {
  std::string bytes;
  AppendNumber(&bytes, field << 3 | 2);
  AppendNumber(&bytes, content.size());
  return bytes + content;
}

// `worker/compute/device/numerical-environment.ts` sets it.
bool IsPortable() { return std::getenv("QIANMO_PORTABLE") != nullptr; }

std::string LeanConfig() {
  std::string rewrites;
  if (IsPortable()) AppendField(&rewrites, kOptimizesNot, true);
  for (const int field : kSwitches) AppendField(&rewrites, field, kSwitchOff);
  AppendField(&rewrites, kMemoryOptimization, kNoMemoryOptimization);
  AppendField(&rewrites, kPrunesNot, true);
  AppendField(&rewrites, kOptimizesNotByTfg, true);
  return Message(kGraphOptions, Message(kRewriteOptions, rewrites));
}

// Whether sessions here may place operations on a GPU, for which nothing was measured.
bool FindsGpu() {
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session = TF_NewSession(graph, options, status);
  TF_DeleteSessionOptions(options);
  bool found = false;
  if (TF_GetCode(status) == TF_OK) {
    TF_DeviceList* devices = TF_SessionListDevices(session, status);
    const int count = TF_GetCode(status) == TF_OK ? TF_DeviceListCount(devices) : 0;
    for (int index = 0; index < count; ++index) {
      const char* type = TF_DeviceListType(devices, index, status);
      found = found || (TF_GetCode(status) == TF_OK && std::strcmp(type, "GPU") == 0);
    }
    if (devices != nullptr) TF_DeleteDeviceList(devices);
    TF_DeleteSession(session, status);
  }
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return found;
}

}  // namespace

extern "C" TF_SessionOptions* QianmoNewSessionOptions() {
  static const bool findsGpu = FindsGpu();
  TF_SessionOptions* options = TF_NewSessionOptions();
  if (findsGpu) return options;
  static const std::string config = LeanConfig();
  TF_Status* status = TF_NewStatus();
  // A library that refuses them has its defaults.
  TF_SetConfig(options, config.data(), config.size(), status);
  TF_DeleteStatus(status);
  return options;
}
