// Texts of a column that has escapes, decoded.
#pragma once
#include <string.h>
#include "scan.h"

class WrittenTexts {
 public:
  WrittenTexts(const uint8_t* body, Scanned* scanned) : body_(body), scanned_(scanned) {}

  // Writes all texts of a column, whose spans are those of what is written then. False, and the spans are as they were, if one is
  // no text of Unicode, or there is no room.
  bool write(uint32_t* spans, size_t count) {
    size_t byteCount = 0;
    for (size_t index = 0; index < count; ++index)
      if (spans[2 * index] < MISSING_START) byteCount += spans[2 * index + 1] - spans[2 * index];
    // A text is not longer than what it is written as in JSON.
    if (scanned_->writtenCountMax - scanned_->writtenCount < byteCount) return false;
    uint8_t* end = scanned_->written + scanned_->writtenCount;
    for (size_t index = 0; index < count; ++index)
      if (spans[2 * index] < MISSING_START && !decoded(spans + 2 * index, &end)) return false;
    end = scanned_->written + scanned_->writtenCount;
    for (size_t index = 0; index < count; ++index) {
      if (spans[2 * index] >= MISSING_START) continue;
      const uint32_t start = uint32_t(end - scanned_->written);
      decoded(spans + 2 * index, &end);
      spans[2 * index] = start;
      spans[2 * index + 1] = uint32_t(end - scanned_->written);
    }
    scanned_->writtenCount = size_t(end - scanned_->written);
    return true;
  }

 private:
  const uint8_t* const body_;
  Scanned* const scanned_;

  bool decoded(const uint32_t* span, uint8_t** end) const {
    const uint8_t* at = body_ + span[0];
    const uint8_t* const stop = body_ + span[1];
    uint8_t* to = *end;
    while (at < stop) {
      if (*at != '\\') {
        *to++ = *at++;
        continue;
      }
      ++at;
      if (*at == 'u') {
        uint32_t code = 0;
        if (!character(&at, stop, &code)) return false;
        to = utf8(code, to);
        continue;
      }
      static const char NAMES[] = "\"\\/bfnrt", MEANT[] = "\"\\/\b\f\n\r\t";
      const char* const name = *at == 0 ? nullptr : strchr(NAMES, *at);
      if (name == nullptr) return false;
      *to++ = uint8_t(MEANT[name - NAMES]);
      ++at;
    }
    *end = to;
    return true;
  }

  // The four digits behind a `u`.
  static bool unit(const uint8_t** at, const uint8_t* stop, uint32_t* code) {
    if (stop - *at < 5 || **at != 'u') return false;
    ++*at;
    *code = 0;
    for (int digit = 0; digit < 4; ++digit, ++*at) {
      const uint8_t lower = **at | 0x20;
      const bool isLetter = lower >= 'a' && lower <= 'f';
      if (!isLetter && (**at < '0' || **at > '9')) return false;
      *code = *code * 16 + (isLetter ? lower - 'a' + 10 : **at - '0');
    }
    return true;
  }

  // Half of a pair of surrogates is no character.
  static bool character(const uint8_t** at, const uint8_t* stop, uint32_t* code) {
    if (!unit(at, stop, code)) return false;
    if (*code < 0xd800 || *code > 0xdfff) return true;
    uint32_t second = 0;
    if (*code > 0xdbff || stop - *at < 2 || **at != '\\') return false;
    ++*at;
    if (!unit(at, stop, &second) || second < 0xdc00 || second > 0xdfff) return false;
    *code = 0x10000 + ((*code - 0xd800) << 10) + (second - 0xdc00);
    return true;
  }

  static uint8_t* utf8(uint32_t code, uint8_t* to) {
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t FIRST[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = uint8_t(FIRST[more] | code >> (6 * more));
    for (int left = more - 1; left >= 0; --left) *to++ = uint8_t(0x80 | (code >> (6 * left) & 0x3f));
    return to;
  }
};
