/**
 * The environment of a compute process as far as it decides the bits of results. The parent sets it
 * when it starts the process, whatever it has inherited itself, because libraries read it once, when
 * they load, and the dynamic linker even before.
 */

type Environment = Readonly<Record<string, string | undefined>>;

/** The instruction set of portable jobs. oneDNN dispatches to it at most. */
const PORTABLE_INSTRUCTION_SET = 'AVX2';
/** Limits the instruction set of oneDNN, under its present and its former name. */
export const INSTRUCTION_SET_MAX = ['ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA'] as const;

/**
 * One thread: workers scale by processes. An inter-operation count of -1 runs a graph in the thread that
 * calls it. A GPU computes with deterministic kernels and is counted as nvidia-smi counts it.
 */
const FORCED: Environment = {
  TF_ENABLE_ONEDNN_OPTS: '1',
  TF_NUM_INTRAOP_THREADS: '1',
  TF_NUM_INTEROP_THREADS: '-1',
  OMP_NUM_THREADS: '1',
  TF_DETERMINISTIC_OPS: '1',
  CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
};

/** Tells the addon that TensorFlow must run graphs as they are (`engine/native/session-options.cc`). */
const PORTABLE = 'QIANMO_PORTABLE';

const FORCED_IF_PORTABLE: Environment = {
  [PORTABLE]: '1',
  ...Object.fromEntries(INSTRUCTION_SET_MAX.map((name) => [name, PORTABLE_INSTRUCTION_SET])),
  CUDA_VISIBLE_DEVICES: '-1',
};

/** These decide no bits. A GPU's memory is taken as it is needed, because others may use it too. */
const UNLESS_SET: Environment = {
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
  TF_CPP_MIN_LOG_LEVEL: '2',
};

/** Settings of the libraries that compute. */
const OF_LIBRARIES = /^(TF|ONEDNN|DNNL|OMP|GOMP|KMP|MKL|OPENBLAS|XLA|CUBLAS|CUDNN|NVIDIA_TF32)_/;
/** Those among them that only log, and those that only say how a GPU's memory is taken. */
const HARMLESS =
  /^(TF_CPP_\w+|(ONEDNN|DNNL)_VERBOSE\w*|TF_FORCE_GPU_ALLOW_GROWTH|TF_FORCE_UNIFIED_MEMORY|TF_GPU_ALLOCATOR)$/;

/** What reaches the queue, and makes its records genuine: a process that computes does neither. */
const SECRET = /^QIANMO_(REDIS_URL|SIGNING_KEY|SIGNING_KEY_FILE)$/;

/**
 * @param inherited what the process would have, GPU included.
 * @param isPortable whether it computes portable jobs: on the CPU, with the instruction set that all
 *   machines of the pool have.
 */
export function numericalEnvironment(
  inherited: Environment,
  isPortable: boolean,
): Record<string, string | undefined> {
  const kept = Object.entries(inherited).filter(
    ([name]) =>
      (!OF_LIBRARIES.test(name) || HARMLESS.test(name)) && name !== PORTABLE && !SECRET.test(name),
  );
  return {
    ...UNLESS_SET,
    ...Object.fromEntries(kept),
    GLIBC_TUNABLES: withoutProcessorTunables(inherited['GLIBC_TUNABLES']),
    ...FORCED,
    ...(isPortable ? FORCED_IF_PORTABLE : {}),
  };
}

/**
 * Makes the environment of this process that of a compute process, before it loads the libraries that compute.
 *
 * @param own the variables of this process, which are changed.
 * @returns false, with nothing changed, if the libraries have read it already.
 */
export function settleOwnEnvironment(
  own: Record<string, string | undefined>,
  wanted: Environment,
  isLoaded: () => boolean,
): boolean {
  const names = new Set([...Object.keys(own), ...Object.keys(wanted)]);
  const changed = [...names].filter((name) => !SECRET.test(name) && own[name] !== wanted[name]);
  if (changed.length === 0) return true;
  // The C library has chosen its functions when the process began.
  if (changed.includes('GLIBC_TUNABLES') || isLoaded()) return false;
  for (const name of changed) {
    const value = wanted[name];
    if (value === undefined) Reflect.deleteProperty(own, name);
    else own[name] = value;
  }
  return true;
}

/** The C library chooses its exponential functions by these. */
function withoutProcessorTunables(tunables: string | undefined): string | undefined {
  const kept = tunables?.split(':').filter((tunable) => !tunable.startsWith('glibc.cpu.'));
  return kept === undefined || kept.length === 0 ? undefined : kept.join(':');
}
