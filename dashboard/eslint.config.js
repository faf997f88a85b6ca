// Beyond what the compilers check: no `any`, no unawaited promises, and the arrows between the layers.
import svelte from 'eslint-plugin-svelte';
import ts from 'typescript-eslint';
import svelteConfig from './svelte.config.js';

/** Files in `from` may not import what matches `forbidden`. */
const arrow = (from, forbidden, message) => ({
  files: from,
  rules: { 'no-restricted-imports': ['error', { patterns: [{ group: forbidden, message }] }] },
});

export default ts.config(
  { ignores: ['dist', 'node_modules', 'src/api/generated', 'scripts', '*.config.js'] },
  ...ts.configs.strict,
  ...svelte.configs.recommended,
  {
    files: ['**/*.ts', '**/*.svelte'],
    languageOptions: {
      parserOptions: {
        project: ['./tsconfig.json', './tsconfig.node.json'],
        extraFileExtensions: ['.svelte'],
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      'svelte/no-at-html-tags': 'error',
      // Plain maps and dates hold what no component reads.
      'svelte/prefer-svelte-reactivity': 'off',
      // Paths are built in routes.ts; there is no framework router to resolve them.
      'svelte/no-navigation-without-resolve': 'off',
    },
  },
  { files: ['**/*.svelte', '**/*.svelte.ts'], languageOptions: { parserOptions: { parser: ts.parser, svelteConfig } } },
  arrow(['src/ui/**'], ['**/api/**', '**/stores/**', '**/session/**', '**/features/**', '**/shell/**', '**/routes*'], 'ui knows nothing of us'),
  arrow(['src/api/**'], ['**/stores/**', '**/session/**', '**/features/**', '**/shell/**', '**/ui/**'], 'api only talks'),
  arrow(['src/stores/**'], ['**/session/**', '**/features/**', '**/shell/**', '**/ui/**'], 'stores know no component'),
  arrow(['src/session/**'], ['**/features/**', '**/shell/**'], 'shared parts know no feature'),
  arrow(['src/features/**'], ['**/features/**', '**/shell/**', '../*/*', '!../../**'], 'features do not know each other; they meet in shell'),
);
