// Scored candidates: calibrated, and put in the order of their values.
#pragma once
#include <node_api.h>

void defineRanking(napi_env env, napi_value exports);
