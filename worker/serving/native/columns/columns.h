// Columns of requests: their texts looked up in hash indexes, bodies in JSON taken apart without making a
// string of each text, lists of numbers written as JSON.
#pragma once
#include <node_api.h>

void defineColumns(napi_env env, napi_value exports);
