// A reader of the tokens of JSON in bytes that are UTF-8. What it leaves to a JSON parser it only finds the end of.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

// A text in quotes: its content, as it lies.
struct JsonText {
  int32_t start, end;
  bool hasEscape;
};

class JsonReader {
 public:
  JsonReader(const uint8_t* body, size_t length) : body_(body), at_(body), end_(body + length) {}

  const uint8_t* body() const { return body_; }
  int32_t place() const { return int32_t(at_ - body_); }
  bool isAtEnd() const { return at_ == end_; }
  bool isAt(uint8_t character) const { return at_ < end_ && *at_ == character; }
  bool isAtNumber() const { return isAt('-') || isDigit(); }

  void skipSpaces() {
    while (at_ < end_ && *at_ <= ' ' && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  bool takes(uint8_t character) {
    if (!isAt(character)) return false;
    ++at_;
    return true;
  }

  // Skips bytes that are also elsewhere in the body.
  bool takesSame(int32_t start, int32_t end) {
    const size_t length = end - start;
    if (size_t(end_ - at_) < length || memcmp(at_, body_ + start, length) != 0) return false;
    at_ += length;
    return true;
  }

  bool text(JsonText* text) {
    if (!takes('"')) return false;
    text->start = place();
    text->hasEscape = false;
    for (skipPlain(); isAt('\\'); skipPlain()) {
      text->hasEscape = true;
      if (end_ - at_ < 2) return false;
      at_ += 2;
    }
    text->end = place();
    return takes('"');
  }

  bool null() {
    if (end_ - at_ < 4 || memcmp(at_, "null", 4) != 0) return false;
    at_ += 4;
    return true;
  }

  // The grammar of JSON. The double is the one nearest to the decimal: exact where a mantissa below 2^53
  // is multiplied or divided by a power of ten that is exact too (Clinger), by the C library otherwise.
  bool number(double* number) {
    const uint8_t* const start = at_;
    const bool isNegative = takes('-');
    uint64_t mantissa = 0;
    int digits = 0, exponent = 0;
    if (!isDigit()) return false;
    if (takes('0')) {
      if (isDigit()) return false;
    } else {
      digits = integer(&mantissa);
    }
    if (takes('.')) {
      if (!isDigit()) return false;
      const int more = integer(&mantissa);
      digits += more;
      exponent = -more;
    }
    if (at_ < end_ && (*at_ | 0x20) == 'e') {
      ++at_;
      const bool isSmall = takes('-');
      if (!isSmall) takes('+');
      if (!isDigit()) return false;
      uint64_t written = 0;
      if (integer(&written) > 4) return false;
      exponent += isSmall ? -int(written) : int(written);
    }
    const bool isExact = digits <= 19 && mantissa <= EXACT_INTEGER_MAX && exponent >= -22 && exponent <= 22;
    double size = double(mantissa);
    if (isExact) size = exponent < 0 ? size / powerOfTen(-exponent) : size * powerOfTen(exponent);
    else if (!byLibrary(isNegative ? start + 1 : start, &size)) return false;
    *number = copysign(size, isNegative ? -1.0 : 1.0);
    return true;
  }

  // Brackets are counted, and no more.
  bool anyValue() {
    if (at_ == end_) return false;
    if (*at_ == '"') return anyText();
    if (*at_ != '[' && *at_ != '{') {
      const uint8_t* const start = at_;
      while (at_ < end_ && strchr(",]} \n\r\t", *at_) == nullptr) ++at_;
      return at_ > start;
    }
    size_t depth = 0;
    do {
      if (at_ == end_) return false;
      if (*at_ == '"') {
        if (!anyText()) return false;
        continue;
      }
      if (*at_ == '[' || *at_ == '{') ++depth;
      if (*at_ == ']' || *at_ == '}') --depth;
      ++at_;
    } while (depth > 0);
    return true;
  }

 private:
  static constexpr uint64_t EXACT_INTEGER_MAX = uint64_t(1) << 53;
  static constexpr int NUMBER_LENGTH_MAX = 64;
  const uint8_t* const body_;
  const uint8_t* at_;
  const uint8_t* const end_;

  static double powerOfTen(int exponent) {
    static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    return POWERS[exponent];
  }

  bool isDigit() const { return at_ < end_ && *at_ >= '0' && *at_ <= '9'; }

  void skipPlain() { at_ = plainEnd(at_); }

  // Where the next quote, escape or control character is, or the end.
  const uint8_t* plainEnd(const uint8_t* at) const {
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), escape = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    for (; end_ - at >= 16; at += 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
      const __m128i isQuote = _mm_cmpeq_epi8(bytes, quote), isEscape = _mm_cmpeq_epi8(bytes, escape);
      const __m128i isControl = _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes);
      const int ends = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(isQuote, isEscape), isControl));
      if (ends != 0) return at + __builtin_ctz(ends);
    }
#endif
    while (at < end_ && *at != '"' && *at != '\\' && *at >= 0x20) ++at;
    return at;
  }

  int integer(uint64_t* value) {
    const uint8_t* const start = at_;
    for (; isDigit(); ++at_) *value = *value * 10 + (*at_ - '0');
    return int(at_ - start);
  }

  bool byLibrary(const uint8_t* start, double* size) const {
    char text[NUMBER_LENGTH_MAX];
    const size_t length = at_ - start;
    if (length >= sizeof text) return false;
    memcpy(text, start, length);
    text[length] = '\0';
    char* stop = nullptr;
    *size = strtod(text, &stop);
    // A locale may have another decimal point.
    return stop == text + length;
  }

  bool anyText() {
    ++at_;
    while (at_ < end_ && *at_ != '"') at_ += *at_ == '\\' ? 2 : 1;
    if (at_ >= end_) {
      at_ = end_;
      return false;
    }
    ++at_;
    return true;
  }
};
