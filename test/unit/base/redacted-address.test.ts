import { expect, it } from 'vitest';
import {
  addressWithoutSecret,
  hasSecret,
  redactedAddress,
} from '../../../shared/base/redacted-address.js';

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
