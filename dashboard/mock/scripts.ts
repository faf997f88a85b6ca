// What the pretended agents do: talk, answer, think, call tools, draw on their terminals.

import type { MockSession, Script } from './world.ts';

/** A line ten times a second, times the world's rate: profile `e2e-talker`. */
export function talker(perSecond = 10): Script {
  return {
    tick(self, now) {
      const last = self.state['last'] ?? now - 50;
      const due = ((now - last) / 1000) * perSecond * self.world.rate + (self.state['rest'] ?? 0);
      self.state['last'] = now;
      self.state['rest'] = due % 1;
      for (let i = 0; i < Math.floor(due); i += 1) {
        const n = (self.state['line'] = (self.state['line'] ?? 0) + 1);
        self.say('agent', `line ${n}`);
      }
    },
    onInject: (self, content) => void self.say('agent', `heard: ${content}`),
  };
}

/** Says back what it is told: profile `e2e-echo`. */
export function echo(): Script {
  return { tick: () => undefined, onInject: (self, content) => void self.say('agent', `heard: ${content}`) };
}

/** Asks for leave once, says what it got, and goes on: profile `e2e-asks`. */
export function asks(): Script {
  return {
    tick(self) {
      if (self.state['asked'] === 1 || self.session.status !== 'running') return;
      self.state['asked'] = 1;
      const { messageId, content } = self.say('system', 'May I run this?\n\n    rm -r build/', 'permission');
      self.update({
        status: 'waiting',
        turn: 'blocked',
        attention: {
          kind: 'permission',
          text: content,
          since: self.world.time(),
          request: {
            requestId: messageId,
            takesText: true,
            options: [
              { optionId: 'once', label: 'Yes, once', kind: 'allowOnce' },
              { optionId: 'never', label: 'No', kind: 'rejectOnce' },
            ],
          },
        },
      });
    },
    onInject: (self, content) => void self.say('agent', `heard: ${content}`),
    onAnswer: (self, answer) => void self.say('agent', `got: ${answer.optionId ?? ''} ${answer.text ?? ''}`.trim()),
  };
}

/** Does nothing by itself. */
export function idle(): Script {
  return echo();
}

type Step =
  | { do: 'say'; text: string; wait: number }
  | { do: 'think'; text: string; wait: number }
  | { do: 'tool'; name: string; call: string; result: string; wait: number }
  | { do: 'system'; text: string; wait: number };

const WORK: Step[] = [
  { do: 'think', wait: 1500, text: 'The flake only appears when two sweeps overlap. If the cursor row is read before the lock is taken, the second sweep deletes what the first has just re-inserted. I should look at how the transaction is opened.' },
  { do: 'say', wait: 900, text: 'The retention sweep and the ingest batch can interleave. I am going to reproduce that first, with two tasks and a barrier, before I change anything.' },
  { do: 'tool', wait: 1800, name: 'bash', call: 'cargo nextest run -p hub retention::overlap --retries 0', result: '    Starting 1 test across 6 binaries (212 skipped)\n        FAIL [   0.412s] hub retention::overlap\n\n  stdout ───\n    thread \'retention::overlap\' panicked at hub/src/retention.rs:188:9:\n    assertion `left == right` failed\n      left: 4996\n     right: 5000\n\n     Summary [   0.420s] 1 test run: 0 passed, 1 failed' },
  { do: 'say', wait: 1200, text: 'Reproduced: four messages are missing after the overlap. The sweep computes its upper bound outside the transaction. Moving it inside, and reading the cursor with it:\n\n    let bound = tx.cursor(workspace).await?.min(horizon);\n    tx.delete_below(session, bound).await?;' },
  { do: 'tool', wait: 1400, name: 'edit', call: 'hub/src/retention.rs\n@@ -171,8 +171,10 @@\n-    let bound = horizon;\n     let tx = store.begin().await?;\n+    let bound = tx.cursor(workspace).await?.min(horizon);\n     tx.delete_below(session, bound).await?;', result: 'applied 1 hunk' },
  { do: 'tool', wait: 2200, name: 'bash', call: 'cargo nextest run -p hub retention --retries 0', result: '    Starting 9 tests across 6 binaries (204 skipped)\n        PASS [   0.391s] hub retention::overlap\n        PASS [   0.022s] hub retention::keeps_audit\n        PASS [   1.204s] hub retention::space_comes_back\n     Summary [   1.611s] 9 tests run: 9 passed' },
  { do: 'say', wait: 3000, text: 'All nine retention tests pass, the overlap 200 times in a row. I left the horizon itself alone; it is read once per sweep and that is enough.' },
  { do: 'system', wait: 4000, text: 'context at 41 %, 1 file changed' },
];

/** An agent that works through its steps again and again, writing its texts piece by piece. */
export function worker(offset = 0): Script {
  return {
    tick(self, now) {
      const { world, state } = self;
      if (now < (state['next'] ?? 0)) return;
      const index = ((state['step'] ?? offset) % WORK.length + WORK.length) % WORK.length;
      const step = WORK[index];
      if (step === undefined) return;
      if (step.do === 'say' || step.do === 'think') {
        const kind = step.do === 'say' ? 'text' : 'reasoning';
        const written = (state['written'] ?? 0) + Math.ceil(step.text.length / 24);
        const ids = pending.get(self) ?? world.newId();
        if (written < step.text.length) {
          pending.set(self, ids);
          state['written'] = written;
          self.delta(ids, step.text.slice(0, written), kind);
          state['next'] = now + 90 / world.rate;
          return;
        }
        pending.delete(self);
        state['written'] = 0;
        self.say('agent', step.text, kind, {}, ids);
      } else if (step.do === 'tool') {
        self.say('agent', step.call, 'toolCall', { tool: step.name });
        self.say('agent', step.result, 'toolResult', { tool: step.name });
      } else {
        self.say('system', step.text, 'status');
      }
      state['step'] = index + 1;
      state['next'] = now + step.wait / world.rate;
      self.update({ turn: 'active' });
    },
    onInject: (self, content) => void self.say('agent', `Understood. I will take this into account: “${content}”`),
  };
}

const pending = new WeakMap<MockSession, string>();

const ESC = '\u001b[';
/** What full-screen agents ask of their terminal when they start, and the reports they switch on. */
const QUERIES =
  `${ESC}c${ESC}>c${ESC}=c${ESC}5n${ESC}6n${ESC}?6n${ESC}?996n${ESC}?u${ESC}>q${ESC}?2026$p${ESC}4$p${ESC}14t${ESC}18t` +
  '\u001bZ\u001b]10;?\u001b\\\u001b]11;?\u0007\u001b]4;1;?\u0007\u001bP+q4d73\u001b\\\u001bP$qm\u001b\\' +
  `${ESC}?1004h${ESC}?1003h${ESC}?1006h`;

/** A full-screen program that draws a moving picture in 24-bit colour. */
export function screen(name: string): Script {
  const bar = (share: number, width: number, rgb: string): string =>
    `${ESC}38;2;${rgb}m${'█'.repeat(Math.round(share * width))}${ESC}38;2;58;68;84m${'░'.repeat(width - Math.round(share * width))}${ESC}0m`;
  return {
    tick(self, now) {
      if (now < (self.state['next'] ?? 0)) return;
      self.state['next'] = now + 400 / self.world.rate;
      const n = (self.state['n'] = (self.state['n'] ?? 0) + 1);
      if (n === 1) self.write(`${ESC}?1049h${ESC}2J${ESC}?25l${QUERIES}`);
      const line = (row: number, text: string): string => `${ESC}${row};3H${text}${ESC}K`;
      const wave = (speed: number): number => (1 + Math.sin(n / speed)) / 2;
      self.write(
        line(2, `${ESC}1m${ESC}38;2;90;169;255m◆ ${name}${ESC}0m  ${ESC}2mstep ${n}, ${new Date(now).toISOString().slice(11, 19)}${ESC}0m`) +
          line(4, `build    ${bar(wave(9), 40, '62;207;142')} ${ESC}1m${Math.round(wave(9) * 100)}%${ESC}0m`) +
          line(5, `tests    ${bar(wave(14), 40, '245;184;61')} ${ESC}1m${Math.round(wave(14) * 412)}${ESC}0m of 412`) +
          line(6, `coverage ${bar(0.62 + wave(30) / 6, 40, '167;139;250')}`) +
          line(8, `${ESC}32m✓${ESC}0m parser          ${ESC}2m 41 ms${ESC}0m`) +
          line(9, `${ESC}32m✓${ESC}0m scheduler       ${ESC}2m112 ms${ESC}0m`) +
          line(10, `${ESC}33m●${ESC}0m property: encode ∘ decode = id ${ESC}2m(${n * 37} cases)${ESC}0m`) +
          line(11, `${ESC}31m✗${ESC}0m ${ESC}4mretention::overlap${ESC}0m  left: 4996, right: 5000`) +
          line(13, `${ESC}48;2;24;34;48m${ESC}38;2;139;150;168m q quit   r run again   f filter   ? help ${ESC}0m`),
      );
    },
    onInput: (self, bytes) => self.write(`${ESC}15;3Htyped: ${JSON.stringify(bytes.toString('utf8'))}${ESC}K`),
    onInject: (self, content) => void self.say('agent', `heard: ${content}`),
  };
}

/** A shell that shows what is typed: profile `shell`. */
export function shell(): Script {
  const prompt = `\r\n${ESC}38;2;62;207;142mops@atlas${ESC}0m:${ESC}34m~/project${ESC}0m$ `;
  return {
    tick(self) {
      if (self.state['greeted'] === 1) return;
      self.state['greeted'] = 1;
      self.write(`Welcome.${prompt}`);
    },
    onInput(self, bytes) {
      for (const char of bytes.toString('utf8')) {
        if (char === '\r') self.write(`\r\nyou typed a line${prompt}`);
        else self.write(char);
      }
    },
    onInject: (self, content) => self.write(`${content}\r\nyou typed a line${prompt}`),
  };
}
