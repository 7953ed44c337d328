// A scanner of {"candidates": [{"adgroup": "a", "bid": 1, "features": {"city": "Oslo", ...}}, ...], ...} that turns candidates
// into columns: spans of texts, and doubles. Each column has room for all candidates that a body may have. All other values
// are left as they lie, for a JSON parser: only their ends are found here. The caller has checked that the body is UTF-8.
#include "scan.h"
#include <string.h>
#include "json-reader.h"

namespace {

class Scanner {
 public:
  Scanner(const uint8_t* body, size_t length, Scanned* scanned) : reader_(body, length), scanned_(*scanned) {}

  bool run() {
    reader_.skipSpaces();
    if (!body()) return false;
    reader_.skipSpaces();
    return reader_.isAtEnd() && count_ > 0;
  }

 private:
  static constexpr size_t COLUMNS_MAX = 64;
  // Values that a column has.
  enum Kind { TEXT = 1, NUMBER = 2, EMPTY = 4, ABSENT = 8, ANY = 16, ESCAPE = 32 };
  // Members of a candidate, and columns of its features.
  enum Role { ADGROUP, BID, PACING, FEATURES, FEATURE };

  struct Column {
    int32_t nameStart, nameEnd;
    Role role;
    int kinds;
    int32_t lastCandidate;
  };

  JsonReader reader_;
  Scanned& scanned_;
  Column columns_[COLUMNS_MAX];
  size_t columnCount_ = 0;
  // The column that the last member belonged to.
  size_t lastColumn_ = 0;
  int32_t count_ = 0;

  uint32_t* spansOf(size_t column) const { return scanned_.spans + 2 * column * scanned_.candidateCountMax; }
  double* numbersOf(size_t column) const { return scanned_.numbers + column * scanned_.candidateCountMax; }

  bool isNamed(const JsonText& name, const char* expected) const {
    const size_t length = size_t(name.end - name.start);
    return strlen(expected) == length && memcmp(reader_.body() + name.start, expected, length) == 0;
  }

  bool memberName(JsonText* name) {
    reader_.skipSpaces();
    return reader_.text(name) && !name->hasEscape && colon();
  }

  bool colon() {
    reader_.skipSpaces();
    if (!reader_.takes(':')) return false;
    reader_.skipSpaces();
    return true;
  }

  bool body() {
    if (!reader_.takes('{')) return false;
    do {
      JsonText name;
      if (!memberName(&name)) return false;
      if (!isNamed(name, "candidates")) {
        if (!reader_.anyValue()) return false;
      } else if (count_ > 0 || !candidates()) {
        return false;
      }
      reader_.skipSpaces();
    } while (reader_.takes(','));
    return reader_.takes('}');
  }

  bool candidates() {
    scanned_.candidatesStart = reader_.place();
    if (!reader_.takes('[')) return false;
    do {
      reader_.skipSpaces();
      if (count_ == int32_t(scanned_.candidateCountMax) || !candidate()) return false;
      ++count_;
      reader_.skipSpaces();
    } while (reader_.takes(','));
    if (!reader_.takes(']')) return false;
    scanned_.candidatesEnd = reader_.place();
    scanned_.candidateCount = size_t(count_);
    for (size_t index = 0; index < columnCount_; ++index)
      if (columns_[index].role != FEATURES && !finish(index)) return false;
    return true;
  }

  bool candidate() {
    size_t memberCount = 0;
    if (!object(false, &memberCount)) return false;
    // Columns are as many as there are members, most often.
    for (size_t index = 0; memberCount < columnCount_ && index < columnCount_; ++index)
      if (columns_[index].lastCandidate != count_) setAbsent(index, count_);
    return true;
  }

  bool object(bool isOfFeatures, size_t* memberCount) {
    if (!reader_.takes('{')) return false;
    reader_.skipSpaces();
    if (reader_.takes('}')) return true;
    do {
      reader_.skipSpaces();
      size_t column = 0;
      if (!columnNamed(isOfFeatures, &column)) return false;
      // The last one counts of members that come twice.
      if (columns_[column].lastCandidate == count_) return false;
      columns_[column].lastCandidate = count_;
      lastColumn_ = column;
      ++*memberCount;
      if (!colon()) return false;
      const bool isFeatures = columns_[column].role == FEATURES;
      if (isFeatures ? !object(true, memberCount) : !value(column)) return false;
      reader_.skipSpaces();
    } while (reader_.takes(','));
    return reader_.takes('}');
  }

  // Most candidates have the members of the one before, in the same order.
  bool columnNamed(bool isOfFeatures, size_t* column) {
    const size_t next = lastColumn_ + 1 < columnCount_ ? lastColumn_ + 1 : 0;
    // The name with its quotes, which no name has in it.
    if (columnCount_ > 0 && (columns_[next].role == FEATURE) == isOfFeatures &&
        reader_.takesSame(columns_[next].nameStart - 1, columns_[next].nameEnd + 1))
      return *column = next, true;
    JsonText name;
    if (!reader_.text(&name) || name.hasEscape) return false;
    const size_t length = name.end - name.start;
    const uint8_t* const bytes = reader_.body() + name.start;
    for (size_t index = 0; index < columnCount_; ++index) {
      const Column& known = columns_[index];
      if ((known.role == FEATURE) == isOfFeatures && size_t(known.nameEnd - known.nameStart) == length &&
          memcmp(reader_.body() + known.nameStart, bytes, length) == 0)
        return *column = index, true;
    }
    // JavaScript puts names that are numbers before others.
    const bool isNumber = length > 0 && *bytes >= '0' && *bytes <= '9';
    if (isNumber || columnCount_ == COLUMNS_MAX || columnCount_ == scanned_.columnCountMax) return false;
    Role role = FEATURE;
    if (!isOfFeatures && !roleOf(name, &role)) return false;
    *column = columnCount_++;
    columns_[*column] = {name.start, name.end, role, 0, -1};
    for (int32_t before = 0; before < count_; ++before) setAbsent(*column, before);
    return true;
  }

  bool roleOf(const JsonText& name, Role* role) const {
    static const char* const NAMES[] = {"adgroup", "bid", "pacing", "features"};
    for (int index = 0; index < 4; ++index)
      if (isNamed(name, NAMES[index])) return *role = Role(index), true;
    return false;
  }

  void setAbsent(size_t column, int32_t candidate) {
    columns_[column].kinds |= ABSENT;
    uint32_t* const span = spansOf(column) + 2 * candidate;
    span[0] = span[1] = MISSING_START;
    // A bid or a pacing that is not there is 1.
    numbersOf(column)[candidate] = 1;
  }

  bool value(size_t column) {
    int kind = ANY;
    uint32_t* const span = spansOf(column) + 2 * count_;
    double* const number = numbersOf(column) + count_;
    span[0] = uint32_t(reader_.place());
    if (reader_.isAt('"')) {
      JsonText text;
      if (!reader_.text(&text) || size_t(text.end - text.start) > scanned_.textLengthMax) return false;
      kind = text.hasEscape ? TEXT | ESCAPE : TEXT;
      span[0] = uint32_t(text.start);
      span[1] = uint32_t(text.end);
    } else if (reader_.isAtNumber()) {
      kind = NUMBER;
      if (!reader_.number(number)) return false;
      span[1] = uint32_t(reader_.place());
    } else if (reader_.isAt('n')) {
      kind = EMPTY;
      if (!reader_.null()) return false;
      span[0] = span[1] = NULL_START;
      *number = NAN;
    } else {
      if (!reader_.anyValue()) return false;
      span[1] = uint32_t(reader_.place());
    }
    columns_[column].kinds |= kind;
    return true;
  }

  bool finish(size_t index) {
    const Column& column = columns_[index];
    const int kinds = column.kinds;
    ScannedColumn& found = scanned_.columns[scanned_.columnCount++];
    found = ScannedColumn{};
    found.isFeature = column.role == FEATURE;
    found.nameStart = column.nameStart;
    found.nameEnd = column.nameEnd;
    const bool isAmount = column.role == BID || column.role == PACING;
    // A JSON parser looks at the whole body where a bid is no number, or a key no text.
    if (isAmount ? (kinds & ~(NUMBER | ABSENT)) != 0 : column.role == ADGROUP && (kinds & ~(TEXT | ESCAPE)) != 0) return false;
    if (isAmount || ((kinds & NUMBER) != 0 && (kinds & ~(NUMBER | EMPTY)) == 0)) {
      found.form = NUMBERS;
      found.first = int32_t(numbersOf(index) - scanned_.numbers);
      return true;
    }
    found.form = (kinds & ~(TEXT | EMPTY)) == 0 ? TEXTS : LISTED;
    found.first = int32_t(spansOf(index) - scanned_.spans);
    return found.form == TEXTS || writeList(spansOf(index), &found);
  }

  bool writeList(const uint32_t* spans, ScannedColumn* found) {
    // Brackets and commas, and 0 for a value that is absent.
    size_t byteCount = 2 + 5 * size_t(count_);
    for (int32_t candidate = 0; candidate < count_; ++candidate)
      if (spans[2 * candidate] < MISSING_START) byteCount += spans[2 * candidate + 1] - spans[2 * candidate] + 2;
    if (scanned_.writtenCountMax - scanned_.writtenCount < byteCount) return false;
    found->start = int32_t(scanned_.writtenCount);
    uint8_t* to = scanned_.written + scanned_.writtenCount;
    *to++ = '[';
    for (int32_t candidate = 0; candidate < count_; ++candidate) {
      if (candidate > 0) *to++ = ',';
      const uint32_t start = spans[2 * candidate], end = spans[2 * candidate + 1];
      if (start == MISSING_START) {
        *to++ = '0';
      } else if (start == NULL_START) {
        memcpy(to, "null", 4);
        to += 4;
      } else {
        // The span of a text begins behind its quote.
        const uint32_t quote = reader_.body()[start - 1] == '"' ? 1 : 0;
        const size_t length = end - start + 2 * quote;
        memcpy(to, reader_.body() + start - quote, length);
        to += length;
      }
    }
    *to++ = ']';
    scanned_.writtenCount = size_t(to - scanned_.written);
    found->end = int32_t(scanned_.writtenCount);
    return true;
  }
};

}  // namespace

bool scanBody(const uint8_t* body, size_t length, Scanned* scanned) { return Scanner(body, length, scanned).run(); }
