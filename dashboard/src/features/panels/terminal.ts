// A terminal on the page: shows what the agent's terminal shows, and hands on what a person types.
//
// Laws:
// 1. Watching changes nothing. The terminal is drawn in its own size, with letters as large as fit; it is resized
//    only when somebody asks for it.
// 2. The page answers no queries of the program: the node does that, once, and ten watching pages must not.
// 3. What is typed arrives in order: one request at a time, all that was typed meanwhile in the next one.
// 4. Output that comes faster than it can be drawn is dropped as a whole, and the screen asked for anew. What comes
//    within one frame is handed over at once, in the order in which it came.
// 5. It is drawn with the graphics processor where there is one (`terminal-webgl.ts`), and else, or when that is lost,
//    with elements: nothing else may depend on which.

import { SearchAddon } from '@xterm/addon-search';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { TerminalPiece } from '../../api/stream.ts';
import { perFrame } from '../../stores/frame.ts';
import { isSentByPerson, isTerminalKey, silenceQueries } from './terminal-input.ts';
import { drawWithWebgl } from './terminal-webgl.ts';

/** The hub hands out what it has kept, up to 2 MiB: some screens more than this are rarely among it. */
const SCROLLBACK_LINES = 5_000;
const MATCHES_MAX = 1_000;
const MATCH_COLOURS = { matchBackground: '#5a4a12', activeMatchBackground: '#b7791f', matchOverviewRuler: '#5a4a12', activeMatchColorOverviewRuler: '#b7791f' };
const RESET = new TextEncoder().encode('\u001bc');
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
  /** Something was selected, or nothing is any more. */
  onSelection(text: string): void;
  /** Which of how many matches of the search is shown; null where there is none. */
  onMatches(at: { index: number; count: number } | null): void;
  /** The keys for copying and for searching. */
  onCopy(text: string): void;
  onSearch(): void;
}

export class TerminalScreen {
  readonly #terminal: Terminal;
  readonly #parent: HTMLElement;
  readonly #hooks: TerminalHooks;
  readonly #observer: ResizeObserver;
  readonly #search = new SearchAddon({ highlightLimit: MATCHES_MAX });
  readonly #undraw: () => void;
  /** What came since the last frame. */
  #waiting: ({ data: Uint8Array } | { cols: number; rows: number })[] = [];
  /** The size that was last told. */
  #told: { cols: number; rows: number } = FALLBACK;
  readonly #hand = perFrame(() => this.#handOver());
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
      // Marks in the text, for what a search has found, count as proposed.
      allowProposedApi: true,
      disableStdin: true,
      cursorBlink: false,
      cursorInactiveStyle: 'outline',
      theme: { background: style.getPropertyValue('--terminal').trim(), foreground: '#d5dbe4', cursor: '#d5dbe4' },
    });
    this.#terminal.open(parent);
    this.#undraw = drawWithWebgl(this.#terminal, parent);
    this.#terminal.loadAddon(this.#search);
    this.#search.onDidChangeResults(({ resultIndex, resultCount }) =>
      hooks.onMatches(resultCount === 0 ? null : { index: resultIndex, count: resultCount }),
    );
    this.#terminal.onSelectionChange(() => hooks.onSelection(this.#terminal.getSelection()));
    this.#terminal.attachCustomKeyEventHandler((event) => this.#onKey(event));
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
      this.#forget();
      // In line with the output and not at once: what was handed over before may not be drawn yet.
      this.#push(RESET);
    }
    if (this.#isDropping) return;
    if (piece.cols !== null && piece.rows !== null && (piece.cols !== this.#told.cols || piece.rows !== this.#told.rows)) {
      this.#told = { cols: piece.cols, rows: piece.rows };
      this.#waiting.push(this.#told);
      this.#hand();
    }
    if (piece.data.length === 0) return;
    if (this.#backlog > BACKLOG_MAX_BYTES) {
      this.#isDropping = true;
      return;
    }
    this.#push(piece.data);
  }

  /** Shows the next match of a text, up or down from the one that is shown. */
  find(text: string, direction: 'up' | 'down', isTyping = false): void {
    if (text === '') {
      this.#search.clearDecorations();
      this.#hooks.onMatches(null);
      return;
    }
    const options = { decorations: MATCH_COLOURS, incremental: isTyping && direction === 'down' };
    if (direction === 'up') this.#search.findPrevious(text, options);
    else this.#search.findNext(text, options);
  }

  endSearch(): void {
    this.#search.clearDecorations();
    this.#terminal.clearSelection();
    this.#terminal.focus();
  }

  get selection(): string {
    return this.#terminal.getSelection();
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
    this.#undraw();
    this.#terminal.dispose();
  }

  #push(data: Uint8Array): void {
    this.#backlog += data.length;
    this.#waiting.push({ data });
    this.#hand();
  }

  /** What is not handed over yet will not be. */
  #forget(): void {
    for (const each of this.#waiting) if ('data' in each) this.#backlog -= each.data.length;
    // Sizes stay: what was told once is not told again.
    this.#waiting = this.#waiting.filter((each) => 'cols' in each);
  }

  #handOver(): void {
    if (this.#isDisposed) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (let at = 0; at < waiting.length; ) {
      const first = waiting[at];
      if (first === undefined) break;
      if ('cols' in first) {
        at += 1;
        // After what was written before it, and before what follows.
        this.#terminal.write('', () => this.#resize(first.cols, first.rows));
        continue;
      }
      const pieces: Uint8Array[] = [];
      for (let each = waiting[at]; each !== undefined && 'data' in each; each = waiting[at]) {
        pieces.push(each.data);
        at += 1;
      }
      this.#draw(joined(pieces));
    }
  }

  #draw(data: Uint8Array): void {
    this.#terminal.write(data, () => {
      this.#backlog -= data.length;
      if (this.#isDropping && this.#backlog === 0 && !this.#isDisposed) this.#hooks.refresh();
    });
  }

  /** False where the key is ours and not the program's. */
  #onKey(event: KeyboardEvent): boolean {
    const what = isTerminalKey(event, { hasSelection: this.#terminal.hasSelection(), isWritable: this.#terminal.options.disableStdin !== true });
    if (what === null) return true;
    if (event.type === 'keydown') {
      if (what === 'copy') this.#hooks.onCopy(this.#terminal.getSelection());
      else this.#hooks.onSearch();
      event.preventDefault();
    }
    // The page has keys of its own; this one was for the terminal.
    event.stopPropagation();
    return false;
  }

  #resize(cols: number, rows: number): void {
    if (this.#isDisposed || (cols === this.#terminal.cols && rows === this.#terminal.rows)) return;
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
    const all = joined(this.#typed);
    this.#typed = all.length > INPUT_MAX_BYTES ? [all.subarray(INPUT_MAX_BYTES)] : [];
    return all.subarray(0, INPUT_MAX_BYTES);
  }
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [first] = pieces;
  if (pieces.length === 1 && first !== undefined) return first;
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
