// The linter's rules: typescript-eslint strict with types, and the house rules that a linter can
// check. Rules about imports between folders and about import cycles belong to test/tidy.
import eslint from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

const projectRoot = new URL('../..', import.meta.url).pathname;

const randomness = { object: 'Math', property: 'random', message: 'Use shared/base/random.ts.' };
const wallClock = [
  { object: 'Date', property: 'now', message: 'Use a Clock (shared/base/clock.ts).' },
  { object: 'performance', property: 'now', message: 'Use a Clock (shared/base/clock.ts).' },
];
const environment = {
  object: 'process',
  property: 'env',
  message: 'Read the environment in infra/ or in a main.ts and pass values on.',
};

export default defineConfig(
  { ignores: ['node_modules/', 'dist/', 'runs/', 'coverage/', 'test/bench/peers/'] },
  eslint.configs.recommended,
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: projectRoot },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      // A quarter of the time, for nothing: there are no enums, and TypeScript itself tells apart classes with private fields.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      '@typescript-eslint/no-unsafe-enum-assignment': 'off',
      '@typescript-eslint/no-unsafe-enum-comparison': 'off',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_' },
      ],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      eqeqeq: 'error',
      'max-lines-per-function': ['error', { max: 70, skipBlankLines: true, skipComments: true }],
      'max-params': ['error', { max: 4 }],
      'no-console': 'error',
    },
  },
  {
    files: ['shared/**/*.ts', 'coordinator/**/*.ts', 'worker/**/*.ts'],
    ignores: ['shared/base/random.ts', 'shared/base/clock.ts', '**/main.ts'],
    rules: {
      'no-restricted-properties': ['error', randomness, ...wallClock, environment],
      'no-restricted-syntax': [
        'error',
        {
          selector: "NewExpression[callee.name='Date'][arguments.length=0]",
          message: 'Use a Clock (shared/base/clock.ts).',
        },
      ],
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      'max-lines-per-function': 'off',
      'max-params': 'off',
      'no-console': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['infra/**'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['**/*.mjs', '**/*.cjs', '**/*.js'],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: {
      globals: {
        console: 'readonly',
        fetch: 'readonly',
        process: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
        URL: 'readonly',
        AbortController: 'readonly',
        AbortSignal: 'readonly',
        performance: 'readonly',
        Buffer: 'readonly',
      },
    },
  },
);
