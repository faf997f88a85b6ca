// Draws a terminal with the graphics processor, where that is faster than elements.
//
// Laws:
// 1. It is never needed: without WebGL 2, with a software renderer, beyond `CONTEXTS_MAX` terminals, or when the browser
//    takes the context away, the terminal is drawn with elements.
// 2. It is loaded only where it is used.

import type { Terminal } from '@xterm/xterm';

/** Browsers take the oldest context away beyond 16, and panels are not the only ones that may want one. */
const CONTEXTS_MAX = 8;
/** `webgl` also with a software renderer, `elements` never; for whoever has a graphics driver that draws nonsense. */
export const RENDERER_KEY = 'mosaic.terminal.renderer';
let contexts = 0;

/** Returns what ends it. `parent` says in `data-renderer` how it is drawn. */
export function drawWithWebgl(terminal: Terminal, parent: HTMLElement): () => void {
  let end = (): void => undefined;
  let isOver = false;
  parent.dataset['renderer'] = 'elements';
  if (contexts >= CONTEXTS_MAX || !isFast()) return end;
  contexts += 1;
  const stop = (): void => {
    if (isOver) return;
    isOver = true;
    contexts -= 1;
    parent.dataset['renderer'] = 'elements';
    end();
  };
  import('@xterm/addon-webgl').then(({ WebglAddon }) => {
    if (isOver) return;
    const addon = new WebglAddon();
    end = () => addon.dispose();
    addon.onContextLoss(stop);
    terminal.loadAddon(addon);
    parent.dataset['renderer'] = 'webgl';
  }).catch(stop);
  return stop;
}

/** Renderers that are programs: slower than elements, whatever they say of themselves. */
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/** Asked of a canvas of its own, which is thrown away. */
function isFast(): boolean {
  const wish = localStorage.getItem(RENDERER_KEY);
  if (wish === 'elements') return false;
  const context = document.createElement('canvas').getContext('webgl2', { failIfMajorPerformanceCaveat: wish !== 'webgl' });
  if (context === null) return false;
  const names = context.getExtension('WEBGL_debug_renderer_info');
  const renderer = String(context.getParameter(names === null ? context.RENDERER : names.UNMASKED_RENDERER_WEBGL));
  context.getExtension('WEBGL_lose_context')?.loseContext();
  return wish === 'webgl' || !SOFTWARE.test(renderer);
}
