// A scanner of {"context": ..., "columns": {"adgroup": [...], "features": {...}, ...}, ...}, and of candidates that are objects
// (objects.h). Lists of texts and lists of numbers become spans and doubles. All other values are left as they lie, for a JSON
// parser: where they begin and end is all that is decided here. The caller has seen to it that the body is UTF-8.
#include "scan.h"
#include "json-reader.h"
#include "objects.h"
#include "written-texts.h"

namespace {

class Scanner {
 public:
  Scanner(const uint8_t* body, size_t length, Scanned* scanned) : reader_(body, length), scanned_(scanned) {}

  bool run() {
    reader_.skipSpaces();
    if (!object(0)) return false;
    reader_.skipSpaces();
    return reader_.isAtEnd();
  }

 private:
  JsonReader reader_;
  Scanned* const scanned_;

  bool isNamed(const ScannedMember& member, const char* name) const {
    const size_t length = member.nameEnd - member.nameStart;
    return strlen(name) == length && memcmp(reader_.body() + member.nameStart, name, length) == 0;
  }

  bool object(int level) {
    if (!reader_.takes('{')) return false;
    reader_.skipSpaces();
    if (reader_.takes('}')) return true;
    do {
      ScannedMember member{};
      member.level = level;
      reader_.skipSpaces();
      JsonText name;
      if (!reader_.text(&name) || name.hasEscape) return false;
      member.nameStart = name.start;
      member.nameEnd = name.end;
      reader_.skipSpaces();
      if (!reader_.takes(':')) return false;
      reader_.skipSpaces();
      if (!valueOf(member)) return false;
      reader_.skipSpaces();
    } while (reader_.takes(','));
    return reader_.takes('}');
  }

  bool valueOf(ScannedMember& member) {
    const bool hasMembers =
        (member.level == 0 && isNamed(member, "columns")) || (member.level == 1 && isNamed(member, "features"));
    const bool hasCandidates = member.level == 0 && isNamed(member, "candidates");
    if (!hasMembers && !hasCandidates) return value(member);
    // The member itself is listed before its own, so that one that comes twice is seen.
    member.start = reader_.place();
    if (!addMember(scanned_, member)) return false;
    return hasMembers ? object(member.level + 1) : ObjectsScanner(&reader_, scanned_).run();
  }

  bool value(ScannedMember& member) {
    member.start = reader_.place();
    const size_t spanCount = scanned_->spanCount, numberCount = scanned_->numberCount;
    if (member.level == 0 || !list(member)) {
      scanned_->spanCount = spanCount;
      scanned_->numberCount = numberCount;
      member.form = OTHER;
      reader_.goTo(member.start);
      if (!reader_.anyValue()) return false;
    }
    member.end = reader_.place();
    return addMember(scanned_, member);
  }

  // A list of texts and nulls, or of numbers and nulls.
  bool list(ScannedMember& member) {
    if (!reader_.takes('[')) return false;
    reader_.skipSpaces();
    bool hasNull = false, hasEscape = false;
    const bool isOfNumbers = reader_.isAtNumber();
    member.first = int32_t(isOfNumbers ? scanned_->numberCount : scanned_->spanCount);
    if (!reader_.takes(']')) {
      do {
        reader_.skipSpaces();
        if (!isOfNumbers) member.count += addPlainTexts();
        const bool isNull = reader_.isAt('n');
        if (isNull && !reader_.null()) return false;
        hasNull = hasNull || isNull;
        if (isOfNumbers ? !addNumber(isNull) : !addText(isNull, &hasEscape)) return false;
        ++member.count;
        reader_.skipSpaces();
      } while (reader_.takes(','));
      if (!reader_.takes(']')) return false;
    }
    member.form = (isOfNumbers ? NUMBERS : TEXTS) | (hasNull ? HAS_NULL : 0);
    if (!hasEscape) return true;
    member.form |= WRITTEN;
    return WrittenTexts(reader_.body(), scanned_).write(scanned_->spans + member.first, member.count);
  }

  int32_t addPlainTexts() {
    uint32_t* const spans = scanned_->spans + scanned_->spanCount;
    const size_t room = (scanned_->spanCountMax - scanned_->spanCount) / 2;
    const size_t count = reader_.plainTexts(spans, room, scanned_->textLengthMax);
    scanned_->spanCount += 2 * count;
    return int32_t(count);
  }

  bool addText(bool isNull, bool* hasEscape) {
    JsonText text{};
    if (!isNull && !reader_.text(&text)) return false;
    if (size_t(text.end - text.start) > scanned_->textLengthMax) return false;
    if (scanned_->spanCount + 2 > scanned_->spanCountMax) return false;
    *hasEscape = *hasEscape || text.hasEscape;
    scanned_->spans[scanned_->spanCount++] = isNull ? NULL_START : uint32_t(text.start);
    scanned_->spans[scanned_->spanCount++] = isNull ? NULL_START : uint32_t(text.end);
    return true;
  }

  bool addNumber(bool isNull) {
    double number = NAN;
    if (!isNull && !reader_.number(&number)) return false;
    if (scanned_->numberCount == scanned_->numberCountMax) return false;
    scanned_->numbers[scanned_->numberCount++] = number;
    return true;
  }
};

}  // namespace

bool scanBody(const uint8_t* body, size_t length, Scanned* scanned) { return Scanner(body, length, scanned).run(); }
