// Which characters reach a terminal: by the filter itself, and in reports of failures.
import { expect, it } from 'vitest';
import { formatFailure, QianmoError } from '../../../shared/base/errors.js';
import { printableText } from '../../../shared/base/printable-text.js';
import {
  addressWithoutSecret,
  hasSecret,
  redactedAddress,
} from '../../../shared/base/redacted-address.js';

/** Sets the title of the window, clears the screen, then overrides the direction of writing. */
const HOSTILE = '\u001b]0;owned\u0007\u009b2J\u202egnp.exe\u2066\r\u0000\u007f';

it('control characters are written as escapes', () => {
  expect(printableText(HOSTILE)).toBe(
    '\\u001b]0;owned\\u0007\\u009b2J\\u202egnp.exe\\u2066\\u000d\\u0000\\u007f',
  );
});

it('no part of a reported failure brings control characters to the terminal', () => {
  const error = new QianmoError({
    ...{ kind: 'data', what: `what${HOSTILE}`, where: `where${HOSTILE}` },
    ...{ expected: HOSTILE, found: HOSTILE, cure: HOSTILE, cause: new Error(`cause${HOSTILE}`) },
  });
  // eslint-disable-next-line no-control-regex -- these are the characters to find
  expect(formatFailure(error)).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e\u2066]/);
});

it.each([
  ['redis://h:1', 'redis://h:1'],
  ['redis://u:secret@h:1/2', 'redis://u:***@h:1/2'],
  ['rediss://u:s3%40cret@h:1', 'rediss://u:***@h:1'],
  ['redis://u:se@cr@et@h:1', 'redis://u:***@h:1'],
  ['redis://u:se:cr:et@h:1', 'redis://u:***@h:1'],
  ['redis://u:se/cr#et@h:1', 'redis://u:***@h:1'],
  ['redis://secret@h:1', 'redis://:***@h:1'],
  ['redis://h:1?password=secret', 'redis://h:1?***'],
  ['redis://h:1/0?db=1&password=sec@ret', 'redis://***'],
  ['redis://u:sec?ret@h:1', 'redis://***'],
  ['redis://u:secret@h:1?password=secret', 'redis://u:***@h:1?***'],
  ['u:secret@h:1', 'u:***@h:1'],
])('redactedAddress of %s is %s', (address, redacted) => {
  expect(redactedAddress(address)).toBe(redacted);
  expect(redacted).not.toContain('ret');
});

it.each([
  ['redis://u:p@ss@h:1/2', true, 'redis://h:1/2'],
  ['redis://h:1?password=p', true, 'redis://h:1'],
  ['redis://u:p?ss@h:1', true, 'redis://HOST'],
  ['embedded', false, 'embedded'],
])('addressWithoutSecret of %s', (address, secret, without) => {
  expect(hasSecret(address)).toBe(secret);
  expect(addressWithoutSecret(address)).toBe(without);
});
