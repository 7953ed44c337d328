/**
 * The constants of feature encoding, once for both encoders: the SQL of `prepare` and the row
 * encoder of this folder.
 *
 * Ids of a dictionary: 0 is unknown or empty; then 1, 2, ... by descending count, equal counts by
 * value in byte order. With N buckets of unseen values, a value outside of the dictionary has the id of its hash
 * bucket among N + 1, which is 1 to N, and the ids of the dictionary begin at N + 1. Hash buckets: 1 + (last eight bytes of MD5 of the UTF-8 value, read
 * little-endian) mod (buckets - 1); empty is 0. Log buckets: 1 + floor(log2(1 + |x|)), which is
 * at most 64, plus 64 for negative x.
 */

/** The id of an empty value, and of one that the dictionary does not hold where no buckets are set aside. */
export const UNKNOWN_ID = 0;

/** The id of the most frequent value of a dictionary, and of the first hash or log bucket. */
export const FIRST_ID = 1;

/** Fills the places of a bag beyond its last member. */
export const EMPTY_PLACE_ID = -1;

export const LOG_BUCKETS_PER_SIGN = 64;

/** Rows of the table of a log-bucketed number. */
export const LOG_BUCKET_ROW_COUNT = 2 * LOG_BUCKETS_PER_SIGN + 1;

/**
 * The store holds single precision: beyond these a value would become infinite or 0 there. They are
 * texts, because they are also literals of SQL and part of messages.
 */
export const STORED_SIZE_MAX = '3.4e38';
export const STORED_SIZE_MIN = '1.2e-38';

/** Begins a text that may be a JSON array: the members of a bag in a text column. */
export const JSON_LIST_START = '[';
