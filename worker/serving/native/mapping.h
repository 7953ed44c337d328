// Files mapped into memory, by address: one thread maps and fills, another reads, since an ArrayBuffer
// belongs to one thread. Whoever has the address says when it is unmapped; nothing here keeps count.
#pragma once
#include <node_api.h>

void defineMapping(napi_env env, napi_value exports);
