// Which characters reach a terminal: by the filter itself, and in reports of failures.
import { expect, it } from 'vitest';
import { formatFailure, QianmoError } from '../../../shared/base/errors.js';
import { printableText } from '../../../shared/base/printable-text.js';

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
