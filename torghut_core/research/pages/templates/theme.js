"use strict";
// The reader's choice of colours, kept where the browser keeps anything for a file; before the page is drawn.
try { document.documentElement.dataset.theme = localStorage.getItem("torghut-theme") || "auto"; }
catch { document.documentElement.dataset.theme = "auto"; }
