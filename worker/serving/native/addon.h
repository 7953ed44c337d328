// The parts of the addon, and the kernels of the instruction sets that this machine has.
#pragma once
#include <node_api.h>
#include <vector>
#include "model.h"

// Files mapped into memory, by address: one thread maps and fills, another reads, since an ArrayBuffer belongs to one
// thread. Whoever has the address says when it is unmapped; nothing there keeps count.
void defineMapping(napi_env env, napi_value exports);
// Columns of requests: their texts looked up in hash indexes, bodies in JSON taken apart without making a string of each
// text, lists of numbers written as JSON.
void defineColumns(napi_env env, napi_value exports);
// Scored candidates: calibrated, and put in the order of their values.
void defineRanking(napi_env env, napi_value exports);

// The kernels that run here, the fastest first.
const std::vector<const Kernel*>& runningKernels();
