// Takes a ranking request in JSON apart. See scan.cc.
#pragma once
#include <stddef.h>
#include <stdint.h>

// A member of the body, of `columns`, or of `columns.features`: eight words. Candidates that are objects have the members of
// the columns that they come to.
struct ScannedMember {
  int32_t level;  // 0: of the body; 1: of `columns`; 2: of `columns.features`.
  int32_t nameStart, nameEnd;
  int32_t form;  // Bits of the forms below.
  int32_t start, end;  // The value as it lies in the body; that of LISTED in `written`.
  int32_t first, count;  // Elements among the spans or the numbers.
};

// LISTED: values of candidates as a list of JSON, where the spans tell which candidates have none.
enum ScannedForm : int32_t { OTHER = 0, TEXTS = 1, NUMBERS = 2, HAS_NULL = 4, WRITTEN = 8, LISTED = 16 };

struct Scanned {
  ScannedMember* members;
  size_t memberCount, memberCountMax;
  uint32_t* spans;  // Two for each text: its first byte and the byte behind it; or one of the starts below.
  size_t spanCount, spanCountMax;
  double* numbers;  // NaN for null.
  size_t numberCount, numberCountMax;
  uint8_t* written;  // Texts of columns that had escapes, and lists.
  size_t writtenCount, writtenCountMax;
  size_t textLengthMax;  // In bytes, of a text in a list.
  size_t candidateCountMax;
};

const uint32_t NULL_START = 0xffffffff;
const uint32_t MISSING_START = 0xfffffffe;

// False if the body is anything but what it takes apart; then a JSON parser must say what it means.
bool scanBody(const uint8_t* body, size_t length, Scanned* scanned);
