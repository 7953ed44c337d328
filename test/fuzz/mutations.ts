/**
 * Seeded mutations of valid examples: of their bytes, of their text, and of the values that JSON and YAML
 * describe.
 */

import type { RandomStream } from '../../shared/base/random.js';

const HOSTILE_NUMBERS = [
  ...[0, -0, -1, 1, 0.5, 255, 256, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53],
  ...[-(2 ** 31), 1e9, 1e15, 1e308, -1e308, 5e-324],
];
const HOSTILE_TEXTS = [
  ...[
    '',
    ' ',
    '\0',
    '\u001b[2J',
    '\u009b',
    '\u202e',
    '\ud800',
    '\uffff',
    '__proto__',
    'constructor',
  ],
  ...['../../etc/passwd', 's3://', 'file://%', 'null', 'NaN', '1e999', '[', '{{', '%s', '\r\n'],
  ...['a'.repeat(5_000), '\\'.repeat(300), '💥'.repeat(500)],
];
const HOSTILE_SNIPPETS = [
  ...[
    '"__proto__":{"a":1},',
    '"constructor":null,',
    ',,',
    '[[[[',
    ']]]]',
    '{"a":{"a":{',
    '\0',
    '\t',
  ],
  ...[
    '\u001b',
    'e999',
    '-',
    '.',
    '"',
    "'",
    '&a [*a, *a]',
    '*a',
    '&a',
    '!!binary x',
    '<<: *a',
    '---\n',
  ],
  ...['? ', '| ', '> ', '%YAML 9.9\n', '#', ': ', '- - - -', '!!js/function x', '\ufeff', '\u2028'],
];
const NESTING_DEPTH_MAX = 20_000;
const NESTING_DEPTHS = [10, 300, 3_000, NESTING_DEPTH_MAX];

export function pick<Item>(stream: RandomStream, items: readonly Item[]): Item {
  const item = items[stream.below(items.length)];
  if (item === undefined) throw new Error('nothing to pick from');
  return item;
}

/** Bits flipped, bytes replaced, runs cut out, copied or inserted, numbers made huge, the end cut off. */
export function mutatedBytes(stream: RandomStream, example: Uint8Array): Uint8Array {
  let bytes = Buffer.from(example);
  for (let count = 1 + stream.below(4); count > 0; count -= 1) {
    const place = stream.below(bytes.length + 1);
    const length = 1 + stream.below(16);
    switch (stream.below(7)) {
      case 0:
        if (place < bytes.length)
          bytes.writeUInt8(bytes.readUInt8(place) ^ (1 << stream.below(8)), place);
        break;
      case 1:
        bytes.fill(stream.below(256), place, Math.min(bytes.length, place + length));
        break;
      case 2:
        bytes = bytes.subarray(0, place);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + length)]);
        break;
      case 4: {
        const from = stream.below(bytes.length + 1);
        const copied = bytes.subarray(from, from + length * 8);
        bytes = Buffer.concat([bytes.subarray(0, place), copied, bytes.subarray(place)]);
        break;
      }
      case 5:
        if (place + 4 <= bytes.length)
          bytes.writeUInt32LE(pick(stream, [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]), place);
        break;
      default:
        if (place + 8 <= bytes.length)
          bytes.writeBigUInt64LE(BigInt(pick(stream, [0, 2 ** 31, 2 ** 32, 2 ** 53])), place);
    }
  }
  return bytes;
}

/** Like `mutatedBytes`, and with parts that parsers of text trip over. */
export function mutatedText(stream: RandomStream, example: string): string {
  if (stream.below(3) === 0)
    return Buffer.from(mutatedBytes(stream, Buffer.from(example))).toString('utf8');
  let text = example;
  for (let count = 1 + stream.below(3); count > 0; count -= 1) {
    const place = stream.below(text.length + 1);
    const from = stream.below(text.length + 1);
    const part = pick(stream, [
      () => pick(stream, HOSTILE_SNIPPETS),
      () => pick(stream, HOSTILE_TEXTS),
      () => String(pick(stream, HOSTILE_NUMBERS)),
      () => text.slice(from, from + 1 + stream.below(200)),
      () => pick(stream, ['[', '{"a":', '- ', '{a: ']).repeat(pick(stream, NESTING_DEPTHS)),
    ])();
    text = text.slice(0, place) + part + text.slice(place + stream.below(20));
  }
  return text;
}

/** Stands for a deeply nested value, which `JSON.stringify` itself could not write. */
const NESTED_MARK = '@nested:';

/** The JSON text of a value in which a few parts were replaced, removed, doubled or added. */
export function mutatedJson(stream: RandomStream, example: unknown): string {
  let value: unknown = structuredClone(example) ?? null;
  for (let count = stream.below(4); count > 0; count -= 1) value = withMutation(stream, value);
  const text = JSON.stringify(value);
  const nested = text.replace(/"@nested:(\d+)"/g, (_, depth: string) => {
    const levels = Math.min(Number(depth), NESTING_DEPTH_MAX);
    const [open, close] = stream.below(2) === 0 ? ['[', ']'] : ['{"a":', '}'];
    return `${open.repeat(levels)}1${close.repeat(levels)}`;
  });
  return stream.below(4) === 0 ? mutatedText(stream, nested) : nested;
}

function withMutation(stream: RandomStream, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || stream.below(8) === 0)
    return hostileValue(stream, value);
  if (Array.isArray(value)) {
    const items: unknown[] = [...(value as unknown[])];
    const place = stream.below(items.length + 1);
    if (place === items.length || stream.below(4) === 0)
      items.splice(place, stream.below(2), hostileValue(stream, items[place]));
    else items[place] = withMutation(stream, items[place]);
    return items;
  }
  const entries = Object.entries(value);
  const place = stream.below(entries.length + 1);
  const entry = entries[place];
  if (entry === undefined) entries.push([pick(stream, HOSTILE_TEXTS), hostileValue(stream, 0)]);
  else if (stream.below(8) === 0) entries.splice(place, 1);
  else entries[place] = [entry[0], withMutation(stream, entry[1])];
  return Object.fromEntries(entries);
}

function hostileValue(stream: RandomStream, value: unknown): unknown {
  switch (stream.below(8)) {
    case 0:
      return pick(stream, HOSTILE_NUMBERS);
    case 1:
      return pick(stream, HOSTILE_TEXTS);
    case 2:
      return pick(stream, [null, true, false, [], {}, [[]], [null], { a: 1 }]);
    case 3:
      return `${NESTED_MARK}${pick(stream, NESTING_DEPTHS)}`;
    case 4:
      return [value, value];
    case 5:
      return typeof value === 'number' ? -value : String(value);
    case 6:
      return { value };
    default:
      return typeof value === 'string' ? mutatedText(stream, value) : pick(stream, HOSTILE_NUMBERS);
  }
}
