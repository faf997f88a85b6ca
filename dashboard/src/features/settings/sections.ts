// The sections of the settings, and who sees which. Pure.

import type { UserRole } from '../../api/types.ts';

export interface SectionInfo {
  /** In the address. */
  id: string;
  title: string;
  /** Only admins have anything to see there. */
  isAdmins: boolean;
}

export const SECTIONS: readonly SectionInfo[] = [
  { id: 'providers', title: 'Agent providers', isAdmins: false },
  { id: 'nodes', title: 'Nodes', isAdmins: false },
  { id: 'people', title: 'People', isAdmins: true },
  { id: 'tokens', title: 'API tokens', isAdmins: false },
  { id: 'account', title: 'My account', isAdmins: false },
  { id: 'retention', title: 'Retention', isAdmins: false },
];

export function sectionsFor(role: UserRole): readonly SectionInfo[] {
  return SECTIONS.filter((section) => !section.isAdmins || role === 'admin');
}

/** The section an address means; the first where it means none that this role has. */
export function sectionOf(id: string | undefined, role: UserRole): string {
  return sectionsFor(role).find((section) => section.id === id)?.id ?? 'providers';
}
