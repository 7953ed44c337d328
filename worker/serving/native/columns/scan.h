// Takes a ranking request in JSON apart. See scan.cc.
#pragma once
#include <stddef.h>
#include <stdint.h>

// A column that members of the candidates come to: seven words.
struct ScannedColumn {
  int32_t isFeature;  // 0: a member of the candidates themselves.
  int32_t nameStart, nameEnd;
  int32_t form;
  int32_t first;  // Its elements among the spans or the numbers.
  int32_t start, end;  // A LISTED column in `written`.
};

// LISTED: values as a list of JSON, where the spans tell which candidates have none.
enum ScannedForm : int32_t { TEXTS = 1, NUMBERS = 2, LISTED = 3 };

struct Scanned {
  ScannedColumn* columns;
  size_t columnCount, columnCountMax;
  uint32_t* spans;  // Two for each text: its first byte and the byte behind it; or one of the starts below.
  double* numbers;  // NaN for null.
  uint8_t* written;  // Lists.
  size_t writtenCount, writtenCountMax;
  size_t textLengthMax;  // In bytes.
  size_t candidateCountMax;
  size_t candidateCount;
  int32_t candidatesStart, candidatesEnd;  // The list of candidates in the body.
};

const uint32_t NULL_START = 0xffffffff;
const uint32_t MISSING_START = 0xfffffffe;

// False if the body is anything but what it takes apart; then a JSON parser must say what it means.
bool scanBody(const uint8_t* body, size_t length, Scanned* scanned);
