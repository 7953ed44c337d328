// A scanner of {"context": ..., "columns": {"adgroup": [...], "features": {...}, ...}, ...}. Lists of plain
// texts and lists of numbers become spans and doubles. All other values are left as they lie, for a JSON
// parser: where they begin and end is all that is decided here, so that brackets are counted and no more.
// The caller has seen to it that the body is UTF-8.
#include "scan.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace {

const double POWERS_OF_TEN[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
const uint64_t EXACT_INTEGER_MAX = uint64_t(1) << 53;
const int NUMBER_LENGTH_MAX = 64;

class Scanner {
 public:
  Scanner(const uint8_t* body, size_t length, Scanned* scanned)
      : body_(body), at_(body), end_(body + length), scanned_(scanned) {}

  bool run() {
    skipSpaces();
    if (!object(0)) return false;
    skipSpaces();
    return at_ == end_;
  }

 private:
  const uint8_t* const body_;
  const uint8_t* at_;
  const uint8_t* const end_;
  Scanned* const scanned_;

  int32_t place() const { return int32_t(at_ - body_); }

  void skipSpaces() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  bool takes(uint8_t character) {
    if (at_ == end_ || *at_ != character) return false;
    ++at_;
    return true;
  }

  // A text without escapes; `start` and `stop` are where its content lies.
  bool plainText(int32_t* start, int32_t* stop) {
    if (!takes('"')) return false;
    *start = place();
    skipPlain();
    *stop = place();
    return takes('"');
  }

  // Goes on to the next quote, escape or control character.
  void skipPlain() {
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), escape = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    for (; end_ - at_ >= 16; at_ += 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at_));
      const __m128i isQuote = _mm_cmpeq_epi8(bytes, quote), isEscape = _mm_cmpeq_epi8(bytes, escape);
      const __m128i isControl = _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes);
      const int ends = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(isQuote, isEscape), isControl));
      if (ends == 0) continue;
      at_ += __builtin_ctz(ends);
      return;
    }
#endif
    while (at_ < end_ && *at_ != '"' && *at_ != '\\' && *at_ >= 0x20) ++at_;
  }

  bool isNamed(const ScannedMember& member, const char* name) const {
    const size_t length = member.nameEnd - member.nameStart;
    return strlen(name) == length && memcmp(body_ + member.nameStart, name, length) == 0;
  }

  bool object(int level) {
    if (!takes('{')) return false;
    skipSpaces();
    if (takes('}')) return true;
    do {
      ScannedMember member{};
      member.level = level;
      skipSpaces();
      if (!plainText(&member.nameStart, &member.nameEnd)) return false;
      skipSpaces();
      if (!takes(':')) return false;
      skipSpaces();
      const bool descends = (level == 0 && isNamed(member, "columns")) || (level == 1 && isNamed(member, "features"));
      if (descends ? !described(member, level + 1) : !value(member)) return false;
      skipSpaces();
    } while (takes(','));
    return takes('}');
  }

  // The member itself is listed before its own, so that one that comes twice is seen.
  bool described(ScannedMember& member, int level) {
    member.start = place();
    return add(member) && object(level);
  }

  bool add(const ScannedMember& member) {
    if (scanned_->memberCount == scanned_->memberCountMax) return false;
    scanned_->members[scanned_->memberCount++] = member;
    return true;
  }

  bool value(ScannedMember& member) {
    member.start = place();
    const size_t spanCount = scanned_->spanCount, numberCount = scanned_->numberCount;
    if (member.level == 0 || !list(member)) {
      scanned_->spanCount = spanCount;
      scanned_->numberCount = numberCount;
      member.form = OTHER;
      at_ = body_ + member.start;
      if (!anyValue()) return false;
    }
    member.end = place();
    return add(member);
  }

  // A list of texts and nulls, or of numbers and nulls.
  bool list(ScannedMember& member) {
    if (!takes('[')) return false;
    skipSpaces();
    bool hasNull = false;
    const bool isOfNumbers = at_ < end_ && (*at_ == '-' || (*at_ >= '0' && *at_ <= '9'));
    member.first = int32_t(isOfNumbers ? scanned_->numberCount : scanned_->spanCount);
    if (!takes(']')) {
      do {
        skipSpaces();
        const bool isNull = at_ < end_ && *at_ == 'n';
        if (isNull && !null()) return false;
        hasNull = hasNull || isNull;
        if (isOfNumbers ? !addNumber(isNull) : !addText(isNull)) return false;
        ++member.count;
        skipSpaces();
      } while (takes(','));
      if (!takes(']')) return false;
    }
    member.form = (isOfNumbers ? NUMBERS : TEXTS) | (hasNull ? HAS_NULL : 0);
    return true;
  }

  bool null() {
    if (end_ - at_ < 4 || memcmp(at_, "null", 4) != 0) return false;
    at_ += 4;
    return true;
  }

  bool addText(bool isNull) {
    int32_t start = 0, stop = 0;
    if (!isNull && !plainText(&start, &stop)) return false;
    if (size_t(stop - start) > scanned_->textLengthMax) return false;
    if (scanned_->spanCount + 2 > scanned_->spanCountMax) return false;
    scanned_->spans[scanned_->spanCount++] = isNull ? NULL_START : uint32_t(start);
    scanned_->spans[scanned_->spanCount++] = isNull ? NULL_START : uint32_t(stop);
    return true;
  }

  bool addNumber(bool isNull) {
    double number = NAN;
    if (!isNull && !this->number(&number)) return false;
    if (scanned_->numberCount == scanned_->numberCountMax) return false;
    scanned_->numbers[scanned_->numberCount++] = number;
    return true;
  }

  bool isDigit() const { return at_ < end_ && *at_ >= '0' && *at_ <= '9'; }

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
    if (isExact) size = exponent < 0 ? size / POWERS_OF_TEN[-exponent] : size * POWERS_OF_TEN[exponent];
    else if (!byLibrary(isNegative ? start + 1 : start, &size)) return false;
    *number = copysign(size, isNegative ? -1.0 : 1.0);
    return true;
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

}  // namespace

bool scanColumns(const uint8_t* body, size_t length, Scanned* scanned) {
  return Scanner(body, length, scanned).run();
}
