// Candidates that are objects, turned into columns: [{"adgroup": "a", "bid": 1, "features": {"city": "Oslo", ...}}, ...]. Each column
// has room for all candidates that a body may have. Most candidates have the members of the one before, in the same order.
#pragma once
#include <string.h>
#include "json-reader.h"
#include "scan.h"
#include "written-texts.h"

inline bool addMember(Scanned* scanned, const ScannedMember& member) {
  if (scanned->memberCount == scanned->memberCountMax) return false;
  scanned->members[scanned->memberCount++] = member;
  return true;
}

class ObjectsScanner {
 public:
  ObjectsScanner(JsonReader* reader, Scanned* scanned) : reader_(*reader), scanned_(scanned) {}

  bool run() {
    const size_t room = scanned_->candidateCountMax;
    if (scanned_->spanCount > 0 || scanned_->numberCount > 0 || room == 0) return false;
    columnCountMax_ = scanned_->spanCountMax / (2 * room);
    if (columnCountMax_ > scanned_->numberCountMax / room) columnCountMax_ = scanned_->numberCountMax / room;
    if (columnCountMax_ > COLUMNS_MAX) columnCountMax_ = COLUMNS_MAX;
    if (!reader_.takes('[')) return false;
    reader_.skipSpaces();
    if (!reader_.takes(']')) {
      do {
        reader_.skipSpaces();
        if (count_ == int32_t(room) || !candidate()) return false;
        ++count_;
        reader_.skipSpaces();
      } while (reader_.takes(','));
      if (!reader_.takes(']')) return false;
    }
    for (size_t index = 0; index < columnCount_; ++index)
      if (!finish(index)) return false;
    return count_ > 0;
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

  JsonReader& reader_;
  Scanned* const scanned_;
  Column columns_[COLUMNS_MAX];
  size_t columnCount_ = 0, columnCountMax_ = 0;
  // The column that the last member belonged to.
  size_t lastColumn_ = 0;
  int32_t count_ = 0;

  uint32_t* spansOf(size_t column) const { return scanned_->spans + 2 * column * scanned_->candidateCountMax; }
  double* numbersOf(size_t column) const { return scanned_->numbers + column * scanned_->candidateCountMax; }

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
      reader_.skipSpaces();
      if (!reader_.takes(':')) return false;
      reader_.skipSpaces();
      const bool isFeatures = columns_[column].role == FEATURES;
      if (isFeatures ? !object(true, memberCount) : !value(column)) return false;
      reader_.skipSpaces();
    } while (reader_.takes(','));
    return reader_.takes('}');
  }

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
    if (columnCount_ == columnCountMax_ || (length > 0 && *bytes >= '0' && *bytes <= '9')) return false;
    Role role = FEATURE;
    if (!isOfFeatures && !roleOf(bytes, length, &role)) return false;
    *column = columnCount_++;
    columns_[*column] = {name.start, name.end, role, 0, -1};
    for (int32_t before = 0; before < count_; ++before) setAbsent(*column, before);
    return true;
  }

  static bool roleOf(const uint8_t* name, size_t length, Role* role) {
    static const char* const NAMES[] = {"adgroup", "bid", "pacing", "features"};
    for (int index = 0; index < 4; ++index)
      if (strlen(NAMES[index]) == length && memcmp(NAMES[index], name, length) == 0) return *role = Role(index), true;
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
      if (!reader_.text(&text) || size_t(text.end - text.start) > scanned_->textLengthMax) return false;
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

  // Lists the column as the member that it would be.
  bool finish(size_t index) {
    const Column& column = columns_[index];
    ScannedMember member{};
    member.level = column.role == FEATURE ? 2 : 1;
    member.nameStart = column.nameStart;
    member.nameEnd = column.nameEnd;
    member.count = count_;
    const int kinds = column.kinds;
    if (column.role == FEATURES) return true;
    if (column.role == BID || column.role == PACING) {
      if ((kinds & ~(NUMBER | ABSENT)) != 0) return false;
      member.form = NUMBERS;
      member.first = int32_t(numbersOf(index) - scanned_->numbers);
      return addMember(scanned_, member);
    }
    member.first = int32_t(spansOf(index) - scanned_->spans);
    if ((kinds & ~(TEXT | EMPTY | ESCAPE)) == 0) {
      member.form = TEXTS | ((kinds & EMPTY) != 0 ? HAS_NULL : 0) | ((kinds & ESCAPE) != 0 ? WRITTEN : 0);
      if ((kinds & ESCAPE) == 0 || WrittenTexts(reader_.body(), scanned_).write(spansOf(index), count_))
        return addMember(scanned_, member);
    } else if ((kinds & ~(NUMBER | EMPTY)) == 0) {
      member.form = NUMBERS | ((kinds & EMPTY) != 0 ? HAS_NULL : 0);
      member.first = int32_t(numbersOf(index) - scanned_->numbers);
      return addMember(scanned_, member);
    }
    member.form = LISTED;
    return column.role == FEATURE && writeList(spansOf(index), &member) && addMember(scanned_, member);
  }

  bool writeList(const uint32_t* spans, ScannedMember* member) {
    // Brackets and commas, and 0 for what is not there.
    size_t byteCount = 2 + 5 * size_t(count_);
    for (int32_t candidate = 0; candidate < count_; ++candidate)
      if (spans[2 * candidate] < MISSING_START) byteCount += spans[2 * candidate + 1] - spans[2 * candidate] + 2;
    if (scanned_->writtenCountMax - scanned_->writtenCount < byteCount) return false;
    member->start = int32_t(scanned_->writtenCount);
    uint8_t* to = scanned_->written + scanned_->writtenCount;
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
    scanned_->writtenCount = size_t(to - scanned_->written);
    member->end = int32_t(scanned_->writtenCount);
    return true;
  }
};
