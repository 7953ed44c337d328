// Texts of a column where they lie, and hashes of them.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "../../../../shared/tensors/native/arguments.h"
#include "scan.h"

struct Text {
  const uint8_t* data;
  size_t length;
};

struct Texts {
  View<uint8_t> bytes;
  View<uint32_t> spans;

  Text at(size_t index) const {
    const uint32_t start = spans.data[2 * index], end = spans.data[2 * index + 1];
    if (start == NULL_START) return {bytes.data, 0};
    demand(start <= end && end <= bytes.count, "a text lies outside its bytes");
    return {bytes.data + start, end - start};
  }
};
