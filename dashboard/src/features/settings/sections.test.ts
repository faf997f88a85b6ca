import { expect, it } from 'vitest';
import { sectionOf, sectionsFor } from './sections.ts';

it('people are set up by admins, and an address that means nothing for a role leads to the first section', () => {
  expect(sectionsFor('operator').map((each) => each.id)).not.toContain('people');
  expect([sectionOf('people', 'admin'), sectionOf('people', 'observer'), sectionOf(undefined, 'admin'), sectionOf('x', 'admin')]).toEqual([
    'people', 'providers', 'providers', 'providers',
  ]);
});
