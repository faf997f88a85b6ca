// A terminal on the page: shows what the agent's terminal shows, and hands on what a person types.
//
// Laws:
// 1. Watching changes nothing. The terminal is drawn in its own size, with letters as large as fit; it is resized
//    only when somebody asks for it.
// 2. The page answers no queries of the program: the node does that, once, and ten watching pages must not.
// 3. What is typed arrives in order: one request at a time, all that was typed meanwhile in the next one.
// 4. Output that comes faster than it can be drawn is dropped as a whole, and the screen asked for anew.

import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { TerminalPiece } from '../../api/stream.ts';
import { isSentByPerson, silenceQueries } from './terminal-input.ts';

const SCROLLBACK_LINES = 2_000;
const FONT_PX_MIN = 7;
const FONT_PX_MAX = 14;
/** Output that waits to be drawn. xterm draws some megabytes a second. */
const BACKLOG_MAX_BYTES = 2 * 1024 * 1024;
/** The hub takes 64 KiB at once. */
const INPUT_MAX_BYTES = 32 * 1024;
const FALLBACK = { cols: 80, rows: 24 };

export interface TerminalHooks {
  /** Sends typed bytes; resolves when they have arrived. */
  send(bytes: Uint8Array): Promise<void>;
  /** The screen is wanted anew. */
  refresh(): void;
  onInputFailed(error: unknown): void;
}

export class TerminalScreen {
  readonly #terminal: Terminal;
  readonly #parent: HTMLElement;
  readonly #hooks: TerminalHooks;
  readonly #observer: ResizeObserver;
  #backlog = 0;
  #isDropping = false;
  #typed: Uint8Array[] = [];
  #isSending = false;
  #isDisposed = false;

  constructor(parent: HTMLElement, hooks: TerminalHooks) {
    this.#parent = parent;
    this.#hooks = hooks;
    const style = getComputedStyle(parent);
    this.#terminal = new Terminal({
      ...FALLBACK,
      fontFamily: style.getPropertyValue('--mono'),
      fontSize: FONT_PX_MAX,
      scrollback: SCROLLBACK_LINES,
      disableStdin: true,
      cursorBlink: false,
      cursorInactiveStyle: 'outline',
      theme: { background: style.getPropertyValue('--terminal').trim(), foreground: '#d5dbe4', cursor: '#d5dbe4' },
    });
    this.#terminal.open(parent);
    silenceQueries(this.#terminal);
    this.#terminal.onData((text) => this.#onTyped(text, new TextEncoder().encode(text)));
    this.#terminal.onBinary((text) => this.#onTyped(text, Uint8Array.from(text, (char) => char.charCodeAt(0))));
    this.#observer = new ResizeObserver(() => this.#fitLetters());
    this.#observer.observe(parent);
  }

  set isWritable(value: boolean) {
    this.#terminal.options.disableStdin = !value;
  }

  get size(): { cols: number; rows: number } {
    return { cols: this.#terminal.cols, rows: this.#terminal.rows };
  }

  write(piece: TerminalPiece): void {
    if (piece.reset) {
      this.#isDropping = false;
      this.#terminal.reset();
    }
    if (this.#isDropping) return;
    if (piece.cols !== null && piece.rows !== null) this.#resize(piece.cols, piece.rows);
    if (piece.data.length === 0) return;
    if (this.#backlog > BACKLOG_MAX_BYTES) {
      this.#isDropping = true;
      return;
    }
    this.#backlog += piece.data.length;
    this.#terminal.write(piece.data, () => {
      this.#backlog -= piece.data.length;
      if (this.#isDropping && this.#backlog === 0 && !this.#isDisposed) this.#hooks.refresh();
    });
  }

  /** How many columns and rows of readable letters the panel has room for. */
  roomFor(fontPx: number): { cols: number; rows: number } | null {
    const cell = this.#cell();
    if (cell === null) return null;
    const scale = fontPx / (this.#terminal.options.fontSize ?? FONT_PX_MAX);
    const box = this.#parent.getBoundingClientRect();
    return {
      cols: Math.max(20, Math.floor((box.width - 16) / (cell.width * scale))),
      rows: Math.max(5, Math.floor(box.height / (cell.height * scale))),
    };
  }

  focus(): void {
    this.#terminal.focus();
  }

  dispose(): void {
    this.#isDisposed = true;
    this.#observer.disconnect();
    this.#terminal.dispose();
  }

  #resize(cols: number, rows: number): void {
    if (cols === this.#terminal.cols && rows === this.#terminal.rows) return;
    this.#terminal.resize(Math.max(2, cols), Math.max(1, rows));
    this.#fitLetters();
  }

  /** Size of one cell as drawn now. */
  #cell(): { width: number; height: number } | null {
    const screen = this.#parent.querySelector<HTMLElement>('.xterm-screen');
    if (screen === null || screen.clientWidth === 0) return null;
    return { width: screen.clientWidth / this.#terminal.cols, height: screen.clientHeight / this.#terminal.rows };
  }

  /** Makes the letters as large as the panel allows for the terminal's own size. */
  #fitLetters(): void {
    const cell = this.#cell();
    if (cell === null) return;
    const font = this.#terminal.options.fontSize ?? FONT_PX_MAX;
    const box = this.#parent.getBoundingClientRect();
    const byWidth = ((box.width - 16) / this.#terminal.cols / cell.width) * font;
    const byHeight = (box.height / this.#terminal.rows / cell.height) * font;
    const wanted = Math.floor(Math.min(byWidth, Math.max(byHeight, FONT_PX_MIN + 2)) * 2) / 2;
    const next = Math.min(FONT_PX_MAX, Math.max(FONT_PX_MIN, wanted));
    if (next !== font) this.#terminal.options.fontSize = next;
  }

  #onTyped(text: string, bytes: Uint8Array): void {
    const hasFocus = this.#parent.contains(document.activeElement);
    if (!isSentByPerson(text, hasFocus)) return;
    this.#typed.push(bytes);
    if (!this.#isSending) void this.#sendTyped();
  }

  async #sendTyped(): Promise<void> {
    this.#isSending = true;
    try {
      while (this.#typed.length > 0 && !this.#isDisposed) await this.#hooks.send(this.#takeTyped());
    } catch (error) {
      // What follows a lost key would mean something else.
      this.#typed = [];
      this.#hooks.onInputFailed(error);
    } finally {
      this.#isSending = false;
    }
  }

  #takeTyped(): Uint8Array {
    const all = new Uint8Array(this.#typed.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of this.#typed) {
      all.set(piece, at);
      at += piece.length;
    }
    this.#typed = all.length > INPUT_MAX_BYTES ? [all.subarray(INPUT_MAX_BYTES)] : [];
    return all.subarray(0, INPUT_MAX_BYTES);
  }
}
