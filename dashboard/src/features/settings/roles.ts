// The roles that a person can be given, and what each may do, in one sentence.

import type { UserRole } from '../../api/types.ts';

export const ROLES: readonly UserRole[] = ['observer', 'operator', 'admin'];

export const ROLE_WORDS: Record<string, string> = {
  observer: 'sees everything and changes nothing',
  operator: 'also speaks to sessions, starts, pauses and ends them',
  admin: 'also sets up nodes, providers, people and retention',
};
