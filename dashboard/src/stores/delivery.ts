// How far an operator message has come, in order and in words.

import type { Delivery, Message, Metadata, Receipt } from '../api/types.ts';

function rank(state: Delivery): number {
  switch (state) {
    case 'accepted':
      return 1;
    case 'delivered':
      return 2;
    // It was handed over, and nobody knows whether it arrived: more than that the node has it.
    case 'unknown':
      return 3;
    case 'written':
      return 4;
    case 'taken':
      return 5;
    case 'refused':
    case 'expired':
      return 6;
    default:
      return 0;
  }
}

/** Knowledge of a delivery only grows. */
export function isNewer(state: Delivery, than: Delivery): boolean {
  return rank(state) > rank(than);
}

export interface DeliveryText {
  state: Delivery;
  label: string;
  /** A sentence for whoever wants to know more. */
  detail: string;
  tone: 'neutral' | 'good' | 'bad' | 'warn';
}

const WORDS: Record<string, Omit<DeliveryText, 'state'>> = {
  accepted: { label: 'accepted', detail: 'The hub has it; the node has not confirmed it yet.', tone: 'neutral' },
  delivered: { label: 'delivered', detail: 'The node has it on disk.', tone: 'neutral' },
  written: { label: 'written', detail: 'It was handed to the agent.', tone: 'good' },
  taken: { label: 'taken', detail: 'The agent began to act on it.', tone: 'good' },
  refused: { label: 'refused', detail: 'It will not be handed over.', tone: 'bad' },
  expired: { label: 'expired', detail: 'Its time was up before it could be handed over.', tone: 'bad' },
  unknown: { label: 'not known', detail: 'Nobody knows yet; it is asked again.', tone: 'warn' },
};

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

/** What `metadata.delivery` says: a bare state, or one with its reason and modes. */
function stored(metadata: Metadata): { state: string; reason: string | null; asked: string | null; got: string | null } | null {
  const delivery = metadata['delivery'];
  if (typeof delivery === 'string') return { state: delivery, reason: null, asked: null, got: null };
  if (delivery === null || typeof delivery !== 'object' || Array.isArray(delivery)) return null;
  const state = text(delivery['state']);
  if (state === null) return null;
  return {
    state,
    reason: text(delivery['reason']),
    asked: text(delivery['modeAsked']),
    got: text(delivery['modeObtained']),
  };
}

/** The newest that is known of a message's delivery. */
export function deliveryText(metadata: Metadata, receipt: Receipt | null): DeliveryText | null {
  const kept = stored(metadata);
  const live =
    receipt === null
      ? null
      : { state: receipt.state, reason: receipt.reason ?? null, asked: receipt.modeAsked, got: receipt.modeObtained ?? null };
  const best = live !== null && (kept === null || !isNewer(kept.state, live.state)) ? live : kept;
  if (best === null) return null;
  const words = WORDS[best.state] ?? { label: best.state, detail: 'A state that this page does not know.', tone: 'neutral' };
  const isOtherMode = best.got !== null && best.asked !== null && best.got !== best.asked;
  return {
    state: best.state,
    tone: words.tone,
    label: isOtherMode ? `${words.label} · ${best.got}` : words.label,
    detail: [
      words.detail,
      best.reason === null ? '' : `Reason: ${best.reason}.`,
      isOtherMode ? `Asked for as ${best.asked}, it went in as ${best.got}.` : '',
    ]
      .filter((part) => part !== '')
      .join(' '),
  };
}

/** What an operator decided on a message that did not get there, as the hub tells it. */
export function decisionText(metadata: Metadata): string | null {
  const settled = metadata['settled'];
  if (settled === null || settled === undefined || typeof settled !== 'object' || Array.isArray(settled)) return null;
  const by = text(settled['by']) ?? 'somebody';
  return text(settled['how']) === 'discarded' ? `Given up by ${by}` : `Sent again by ${by}`;
}

/** Who sent an operator message. */
export function operatorName(message: Pick<Message, 'metadata'>): string | null {
  const operator = message.metadata['operator'];
  if (operator === null || typeof operator !== 'object' || Array.isArray(operator)) return text(operator);
  return text(operator['name']) ?? text(operator['id']);
}
