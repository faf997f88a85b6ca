// Makes `src/api/generated/schema.ts` from the hub's OpenAPI document.
//
//   npm run gen -- http://127.0.0.1:7420/api/openapi.json
//   npm run gen -- openapi.json            a file
//   npm run gen -- openapi.json --check    fails if the committed file differs

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import openapiTS, { astToString } from 'openapi-typescript';

const [source, flag] = process.argv.slice(2);
if (source === undefined) {
  console.error('usage: npm run gen -- URL-or-FILE [--check]');
  process.exit(64);
}
const target = resolve(import.meta.dirname, '../src/api/generated/schema.ts');
const isUrl = /^https?:/.test(source);
const document = JSON.parse(isUrl ? await (await fetch(source)).text() : await readFile(source, 'utf8'));
// Only the shapes: the paths are built in `src/routes.ts`.
const types = await openapiTS({ ...document, paths: {} });
const text = `// Made by \`npm run gen\` from the hub's OpenAPI document. Not edited by hand.\n\n${astToString(types)}`;

if (flag === '--check') {
  const kept = await readFile(target, 'utf8').catch(() => '');
  if (kept !== text) {
    console.error("the committed types differ from the hub's OpenAPI document: run npm run gen");
    process.exit(1);
  }
} else {
  await mkdir(resolve(target, '..'), { recursive: true });
  await writeFile(target, text);
}
