/** The image of GPU workers on a machine without a GPU: it has every library of CUDA, and refuses to work on the processor. */

import type { Checks } from '../checks.js';
import { endedWith } from '../programs.js';
import { startContainer, type ContainerOrder } from './container.js';

type Order = Pick<ContainerOrder, 'environment' | 'volumes'>;

const LIBRARIES = '/opt/qianmo/dist/node_modules/@tensorflow/tfjs-node-gpu/deps/nvidia';
/** Prints each library, and what the linker does not find for it. */
const LINKED = `for library in ${LIBRARIES}/*/lib/*.so*; do echo "$library"; ldd "$library" | grep "not found"; done; true`;
/** The library of the driver, which the machine brings. */
const OF_DRIVER = /libcuda\.so\.1 => not found/;

export async function checkGpuImage({ check }: Checks, image: string, order: Order): Promise<void> {
  const ended = (given: Partial<ContainerOrder>) =>
    startContainer(image, { ...order, ...given }).ended;
  await check('worker-gpu: user and root', async () => {
    const script = 'id -u; touch /opt/qianmo/x 2>&1; touch /tmp/x /data/x && node --version';
    const output = endedWith(await ended({ command: ['sh', '-c', script] }), 0);
    if (!/^10001\n.*Read-only file system\nv\d+/.test(output)) throw new Error(output);
    return output.trim().replaceAll('\n', '; ');
  });
  await check('worker-gpu: libraries of CUDA', async () => {
    const lines = endedWith(await ended({ command: ['sh', '-c', LINKED] }), 0)
      .trim()
      .split('\n');
    const missing = lines.filter((line) => line.includes('not found') && !OF_DRIVER.test(line));
    if (missing.length > 0) throw new Error(missing.join('; '));
    const count = lines.filter((line) => line.startsWith('/')).length;
    return `${count} libraries, each with all that it is linked to but the driver`;
  });
  await check('worker-gpu: TensorFlow', async () => {
    const output = endedWith(await ended({ args: ['check', '--device', 'cpu'] }), 0);
    const [line] = /ok +native TensorFlow.*/.exec(output) ?? [];
    if (line === undefined) throw new Error(output);
    return line.replace(/ +/g, ' ');
  });
  await check('worker-gpu: its own command without a GPU', async () => {
    const output = endedWith(await ended({}), 3);
    // TensorFlow has lines of its own with this word in them.
    const [line] = /^error: a GPU is demanded.*/m.exec(output) ?? [];
    if (line === undefined) throw new Error(output);
    return `exit code 3: ${line}`;
  });
}
