// Short notices. Good news leaves by itself, bad news stays until it is read.

import { errorText } from '../api/errors.ts';

export interface Toast {
  id: number;
  tone: 'good' | 'info' | 'bad';
  title: string;
  text: string;
  /** What to quote when asking for help. */
  reference: string | null;
}

/** More would cover the page; the oldest goes. */
const TOASTS_MAX = 4;
const SHOWN_MS = 6_000;

export class Toasts {
  list = $state.raw<Toast[]>([]);
  #nextId = 1;

  show(tone: 'good' | 'info', title: string, text = ''): void {
    const id = this.#add({ tone, title, text, reference: null });
    setTimeout(() => this.dismiss(id), SHOWN_MS);
  }

  error(title: string, error: unknown): void {
    const { message, code, requestId } = errorText(error);
    const reference = [code === null ? '' : `code ${code}`, requestId === null ? '' : `request ${requestId}`];
    const known = this.list.find((toast) => toast.title === title && toast.text === message);
    if (known !== undefined) this.dismiss(known.id);
    this.#add({ tone: 'bad', title, text: message, reference: reference.filter((r) => r !== '').join(' · ') || null });
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  #add(toast: Omit<Toast, 'id'>): number {
    const id = this.#nextId;
    this.#nextId += 1;
    this.list = [...this.list, { ...toast, id }].slice(-TOASTS_MAX);
    return id;
  }
}
