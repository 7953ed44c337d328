// Every call of the library computes rows by the addon that set-up has compiled.

import { beforeAll, expect, test } from 'vitest';
import { rowAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { surroundingsOf } from '../../../infra/library/verb.js';
import { nativeRows, nativeRowsPath } from '../../../shared/tensors/native-rows.js';

beforeAll(async () => {
  await rowAddon.install(() => undefined, { retry: true });
});

test('a call of the library loads the loops over table rows', () => {
  expect(nativeRows()).toBeNull();
  surroundingsOf({});
  expect(nativeRowsPath()).toBe(rowAddon.path());
  expect(nativeRows()).not.toBeNull();
});
