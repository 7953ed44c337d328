// Takes a ranking request in JSON columns apart. See scan.cc.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Of a member of the body, of `columns`, or of `columns.features`: eight words.
struct ScannedMember {
  int32_t level;  // 0: of the body; 1: of `columns`; 2: of `columns.features`.
  int32_t nameStart, nameEnd;
  int32_t form;  // One of the forms below.
  int32_t start, end;  // The value as it lies in the body.
  int32_t first, count;  // Elements among the spans or the numbers.
};

enum ScannedForm : int32_t { OTHER = 0, TEXTS = 1, NUMBERS = 2, HAS_NULL = 4 };

struct Scanned {
  ScannedMember* members;
  size_t memberCount, memberCountMax;
  uint32_t* spans;  // Two for each text: its first byte and the byte behind it; NULL_START for null.
  size_t spanCount, spanCountMax;
  double* numbers;  // NaN for null.
  size_t numberCount, numberCountMax;
  size_t textLengthMax;  // In bytes, of a text in a list.
};

const uint32_t NULL_START = 0xffffffff;

// False if the body is anything but what it takes apart; then a JSON parser must say what it means.
bool scanColumns(const uint8_t* body, size_t length, Scanned* scanned);
