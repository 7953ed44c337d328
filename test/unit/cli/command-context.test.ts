import { expect, test } from 'vitest';
import { openCommandContext } from '../../../infra/cli/command-context.js';

test('everything is closed, last opened first, even when one close fails', async () => {
  const context = openCommandContext({}, process.stdout, process.stderr);
  const closed: string[] = [];
  const closeAs = (name: string) => (): Promise<void> => {
    closed.push(name);
    return Promise.resolve();
  };
  context.onClose(closeAs('folder'));
  context.onClose(() => Promise.reject(new Error('redis is gone')));
  context.onClose(closeAs('workers'));
  await expect(context.close()).rejects.toThrow('redis is gone');
  expect(closed).toEqual(['workers', 'folder']);
});
