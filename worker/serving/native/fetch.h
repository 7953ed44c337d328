// Memory that is read soon, fetched into the second cache: many lines at once would drive out of the first one what is under way, and on
// AMD's processors they wait for each other on their way there.
#pragma once

static inline __attribute__((always_inline)) void fetch(const void* line) { __builtin_prefetch(line, 0, 2); }
