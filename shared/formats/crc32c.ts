/** CRC-32C (Castagnoli), as TensorFlow's files carry it: masked, so that a checksum of checksums is none of their own. */

const POLYNOMIAL = 0x82f63b78;
const MASK_DELTA = 0xa282ead8;

/** `TABLES[k]` takes a byte that k bytes follow. */
const TABLES = tablesOf();

function tablesOf(): readonly Int32Array[] {
  const first = Int32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
    return crc;
  });
  const tables = [first];
  for (let step = 1; step < 4; step += 1) {
    const before = tables[step - 1] ?? first;
    tables.push(before.map((crc) => (first[crc & 0xff] ?? 0) ^ (crc >>> 8)));
  }
  return tables;
}

/** @param crc of the bytes before, 0 at first. */
export function crc32c(bytes: Uint8Array, crc = 0): number {
  const [one, two, three, four] = TABLES;
  if (one === undefined || two === undefined || three === undefined || four === undefined) return 0;
  let sum = ~crc;
  let place = 0;
  for (const end = bytes.length - 3; place < end; place += 4) {
    sum ^=
      (bytes[place] ?? 0) |
      ((bytes[place + 1] ?? 0) << 8) |
      ((bytes[place + 2] ?? 0) << 16) |
      ((bytes[place + 3] ?? 0) << 24);
    sum =
      (four[sum & 0xff] ?? 0) ^
      (three[(sum >>> 8) & 0xff] ?? 0) ^
      (two[(sum >>> 16) & 0xff] ?? 0) ^
      (one[sum >>> 24] ?? 0);
  }
  for (; place < bytes.length; place += 1)
    sum = (one[(sum ^ (bytes[place] ?? 0)) & 0xff] ?? 0) ^ (sum >>> 8);
  return ~sum >>> 0;
}

export function maskedCrc(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}
