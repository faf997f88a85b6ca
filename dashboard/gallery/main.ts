// Puts the gallery into the document. Only the dev server has it; the build begins at the page's own index.html.

import { mount } from 'svelte';
import '../src/app.css';
import Gallery from './Gallery.svelte';

const target = document.getElementById('app');
if (target === null) throw new Error('index.html has no #app');
mount(Gallery, { target });
