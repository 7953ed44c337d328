// Runs in a separate process: loads native TensorFlow, multiplies two matrices, prints one JSON
// line.
import { createRequire } from 'node:module';
import '../../worker/compute/engine/removed-node-functions.mjs';
import { tfjsPackageFolder } from './tensorflow.mjs';

const tf = createRequire(import.meta.url)(tfjsPackageFolder);

const left = tf.tensor2d([1, 2, 3, 4], [2, 2]);
const product = Array.from(tf.matMul(left, left).dataSync());
if (product.join() !== '7,10,15,22') throw new Error(`wrong product ${product.join()}`);
/** @type {any} the declared type is the one shared by all backends */
const backend = tf.backend();
const device = backend.isUsingGpuDevice ? 'GPU' : 'CPU';
console.log(JSON.stringify({ version: backend.binding.TF_Version, device }));
