// Columns of requests: see addon.h.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <algorithm>
#include <charconv>
#include <stdexcept>
#include "addon.h"
#include "dictionary.h"
#include "json-reader.h"

namespace {

// An array whose memory was given back has no elements.
bool isPowerOfTwo(size_t count) { return count > 0 && (count & (count - 1)) == 0; }

// The index of `key-index.ts`.
struct KeyIndex {
  View<uint32_t> hashes;
  View<int32_t> blocks;
  FirstSlot first;

  size_t slotOf(uint64_t hash) const { return first.of(FirstSlot::mixed(uint32_t(hash) ^ uint32_t(hash >> 32))); }

  void fetch(uint64_t hash) const {
    const size_t slot = slotOf(hash);
    ::fetch(blocks.data + slot);
    ::fetch(hashes.data + 2 * slot);
  }

  int32_t blockOf(uint64_t hash) const {
    size_t slot = slotOf(hash);
    for (size_t probed = 0; probed < blocks.count; ++probed) {
      const int32_t block = blocks.data[slot];
      const bool isAt =
          hashes.data[2 * slot] == uint32_t(hash) && hashes.data[2 * slot + 1] == uint32_t(hash >> 32);
      if (block == UNKNOWN || isAt) return block;
      slot = (slot + 1) & (blocks.count - 1);
    }
    return UNKNOWN;
  }
};

KeyIndex keyIndexAt(const Arguments& arguments, int first) {
  const View<int32_t> blocks = arguments.words(first + 1);
  const KeyIndex index{arguments.unsignedWords(first), blocks, FirstSlot(blocks.count)};
  demand(index.hashes.count == 2 * index.blocks.count, "the index has other hashes than blocks");
  demand(isPowerOfTwo(index.blocks.count), "an index has a power of two of slots");
  return index;
}

// Candidate i has the place first + i * stride of the target.
void demandPlaces(View<int32_t> target, size_t count, size_t first, size_t stride) {
  demand(count == 0 || (first < target.count && (count == 1 || (target.count - 1 - first) / (count - 1) >= stride)),
         "the target is too short");
}

// lookUpValues(bytes, spans, dictionary's bytes, offsets, slots, count, target, first, stride)
void lookUpValues(const Arguments& arguments) {
  const Texts asked{arguments.bytes(0), arguments.unsignedWords(1)};
  const View<uint32_t> slots = arguments.unsignedWords(4);
  const Dictionary dictionary({arguments.bytes(2), arguments.unsignedWords(3)}, slots);
  const size_t count = arguments.wholeNumber(5), first = arguments.wholeNumber(7), stride = arguments.wholeNumber(8);
  const View<int32_t> target = arguments.words(6);
  demand(asked.spans.count >= 2 * count, "there are fewer texts");
  demandPlaces(target, count, first, stride);
  demand(isPowerOfTwo(slots.count), "an index has a power of two of slots");
  for (size_t begin = 0; begin < count; begin += BATCH)
    dictionary.lookUp(asked, begin, begin + BATCH < count ? begin + BATCH : count, target.data + first, stride);
}

// lookUpBuckets(bytes, spans, buckets, count, whether known ones stay, target, first, stride, kernel): the hash bucket of each
// text, 0 for an empty one. A text stays known where its place has another number than 0.
void lookUpBuckets(const Arguments& arguments) {
  const Texts asked{arguments.bytes(0), arguments.unsignedWords(1)};
  const size_t buckets = arguments.wholeNumber(2), count = arguments.wholeNumber(3);
  const bool keepsKnown = arguments.boolean(4);
  const View<int32_t> target = arguments.words(5);
  const size_t first = arguments.wholeNumber(6), stride = arguments.wholeNumber(7), kernel = arguments.wholeNumber(8);
  demand(asked.spans.count >= 2 * count, "there are fewer texts");
  demandPlaces(target, count, first, stride);
  demand(buckets >= 2 && buckets <= INT32_MAX, "there is no such number of buckets");
  demand(kernel < runningKernels().size(), "there is no such kernel");
  const BucketFunction bucketsOf = runningKernels()[kernel]->bucketsOf;
  HashedText texts[BATCH];
  uint32_t found[BATCH];
  int32_t* places[BATCH];
  for (size_t begin = 0; begin < count; begin += BATCH) {
    size_t textCount = 0;
    for (size_t index = begin; index < count && index < begin + BATCH; ++index) {
      int32_t* const place = target.data + first + index * stride;
      if (keepsKnown && *place != UNKNOWN) continue;
      *place = UNKNOWN;
      const Text text = asked.at(index);
      if (text.length == 0) continue;
      texts[textCount] = {text.data, text.length};
      places[textCount++] = place;
    }
    bucketsOf(texts, textCount, uint32_t(buckets), found);
    for (size_t index = 0; index < textCount; ++index) *places[index] = int32_t(found[index]);
  }
}

// lookUpKeys(bytes, spans, index's hashes, blocks, key bytes, key offsets, blocks, hashes)
void lookUpKeys(const Arguments& arguments) {
  const Texts asked{arguments.bytes(0), arguments.unsignedWords(1)};
  const KeyIndex index = keyIndexAt(arguments, 2);
  const Stored keys{arguments.bytes(4), arguments.unsignedWords(5)};
  const View<int32_t> blocks = arguments.words(6);
  const View<uint32_t> hashes = arguments.unsignedWords(7);
  demand(asked.spans.count >= 2 * blocks.count && hashes.count >= 2 * blocks.count, "there are fewer texts");
  for (size_t begin = 0; begin < blocks.count; begin += BATCH) {
    const size_t end = begin + BATCH < blocks.count ? begin + BATCH : blocks.count;
    Text texts[BATCH];
    uint64_t found[BATCH];
    for (size_t candidate = begin; candidate < end; ++candidate) texts[candidate - begin] = asked.at(candidate);
    hashTexts<uint64_t>(texts, end - begin, 0xcbf29ce484222325ull, 0x100000001b3ull, found);
    for (size_t candidate = begin; candidate < end; ++candidate) {
      hashes.data[2 * candidate] = uint32_t(found[candidate - begin]);
      hashes.data[2 * candidate + 1] = uint32_t(found[candidate - begin] >> 32);
    }
    for (size_t candidate = begin; candidate < end; ++candidate) index.fetch(found[candidate - begin]);
    for (size_t candidate = begin; candidate < end; ++candidate) {
      const int32_t block = index.blockOf(found[candidate - begin]);
      blocks.data[candidate] = block;
      keys.fetchOffset(block);
    }
    for (size_t candidate = begin; candidate < end; ++candidate)
      keys.fetchBytes(blocks.data[candidate], texts[candidate - begin].length);
    for (size_t candidate = begin; candidate < end; ++candidate)
      if (!keys.has(blocks.data[candidate], texts[candidate - begin])) blocks.data[candidate] = UNKNOWN;
  }
}

// lookUpHashes(words, index's hashes, blocks, blocks)
void lookUpHashes(const Arguments& arguments) {
  const View<uint32_t> words = arguments.unsignedWords(0);
  const KeyIndex index = keyIndexAt(arguments, 1);
  const View<int32_t> blocks = arguments.words(3);
  demand(words.count >= 2 * blocks.count, "there are fewer hashes");
  const auto hashAt = [&](size_t at) { return words.data[2 * at] | uint64_t(words.data[2 * at + 1]) << 32; };
  for (size_t candidate = 0; candidate < blocks.count && candidate < AHEAD; ++candidate) index.fetch(hashAt(candidate));
  for (size_t candidate = 0; candidate < blocks.count; ++candidate) {
    if (candidate + AHEAD < blocks.count) index.fetch(hashAt(candidate + AHEAD));
    blocks.data[candidate] = index.blockOf(hashAt(candidate));
  }
}

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

// A scanner of {"candidates": [{"adgroup": "a", "bid": 1, "features": {"city": "Oslo", ...}}, ...], ...} that turns candidates
// into columns: spans of texts, and doubles. Each column has room for all candidates that a body may have. All other values
// are left as they lie, for a JSON parser: only their ends are found here. The caller has checked that the body is UTF-8.
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


bool scanBody(const uint8_t* body, size_t length, Scanned* scanned) { return Scanner(body, length, scanned).run(); }

// scanBody(body, words, spans, numbers, room to write, length of a text, candidates): the number of columns, -1 for any other body.
// The words are the number of candidates, where their list begins and ends, and the columns.
napi_value scan(const Arguments& arguments) {
  const View<uint8_t> body = arguments.bytes(0);
  const View<int32_t> words = arguments.words(1);
  const View<uint32_t> spans = arguments.unsignedWords(2);
  const View<double> numbers = arguments.doubles(3);
  const View<uint8_t> written = arguments.bytes(4);
  const size_t HEAD = 3, candidates = arguments.wholeNumber(6);
  demand(words.count > HEAD && candidates > 0 && candidates <= INT32_MAX, "there is no room for candidates");
  Scanned scanned{};
  scanned.columns = reinterpret_cast<ScannedColumn*>(words.data + HEAD);
  scanned.columnCountMax = std::min({(words.count - HEAD) * sizeof(int32_t) / sizeof(ScannedColumn),
                                     spans.count / (2 * candidates), numbers.count / candidates});
  scanned.spans = spans.data;
  scanned.numbers = numbers.data;
  scanned.written = written.data;
  scanned.writtenCountMax = std::min(written.count, size_t(INT32_MAX));
  scanned.textLengthMax = arguments.wholeNumber(5);
  scanned.candidateCountMax = candidates;
  const bool isScanned = body.count < INT32_MAX && scanBody(body.data, body.count, &scanned);
  words.data[0] = int32_t(scanned.candidateCount);
  words.data[1] = scanned.candidatesStart;
  words.data[2] = scanned.candidatesEnd;
  napi_value count;
  napi_create_int32(arguments.env(), isScanned ? int32_t(scanned.columnCount) : -1, &count);
  return count;
}

const int NUMBER_BYTES_MAX = 32;
const double WHOLE_MAX = 1e9;

char* writeDouble(char* at, double value) {
#ifdef __cpp_lib_to_chars
  return std::to_chars(at, at + NUMBER_BYTES_MAX, value).ptr;
#else
  return at + snprintf(at, NUMBER_BYTES_MAX, "%.17g", value);
#endif
}

char* writeNumber(char* at, double value) {
  // JSON has no other numbers, and the difference of 0 and -0 means nothing here.
  if (!isfinite(value)) return static_cast<char*>(memcpy(at, "null", 4)) + 4;
  if (value == 0) return *at = '0', at + 1;
  // Digits of a whole number take a fraction of the time.
  if (fabs(value) < WHOLE_MAX && value == int32_t(value)) return std::to_chars(at, at + NUMBER_BYTES_MAX, int32_t(value)).ptr;
  return writeDouble(at, value);
}

// writeNumbers(values, out, at): where the list ends in `out`; its numbers are parted by commas.
napi_value writeNumbers(const Arguments& arguments) {
  napi_typedarray_type type;
  const View<void> values = arguments.elements(arguments.value(0), &type);
  const View<uint8_t> out = arguments.bytes(1);
  const size_t first = arguments.wholeNumber(2);
  demand(first <= out.count && (out.count - first) / (NUMBER_BYTES_MAX + 1) >= values.count, "there is too little room");
  char* at = reinterpret_cast<char*>(out.data) + first;
  for (size_t index = 0; index < values.count; ++index) {
    if (index > 0) *at++ = ',';
    if (type == napi_float64_array) at = writeNumber(at, static_cast<double*>(values.data)[index]);
    else if (type == napi_float32_array) at = writeNumber(at, static_cast<float*>(values.data)[index]);
    else if (type == napi_int32_array)
      at = std::to_chars(at, at + NUMBER_BYTES_MAX, static_cast<int32_t*>(values.data)[index]).ptr;
    else throw std::runtime_error("numbers of this type are not written");
  }
  napi_value end;
  napi_create_uint32(arguments.env(), uint32_t(at - reinterpret_cast<char*>(out.data)), &end);
  return end;
}

}  // namespace

void defineColumns(napi_env env, napi_value exports) {
  defineFunctions(env, exports,
                  {{"lookUpValues", calledForEffect<lookUpValues>},
                   {"lookUpBuckets", calledForEffect<lookUpBuckets>},
                   {"lookUpKeys", calledForEffect<lookUpKeys>},
                   {"lookUpHashes", calledForEffect<lookUpHashes>},
                   {"scanBody", calledForValue<scan>},
                   {"writeNumbers", calledForValue<writeNumbers>}});
}
